"""Waiting for a job that does not run says what it waits for."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from broker import canvas
from db import ledger, read
from db.ahead import ahead
from db.engine import autocommit
from tests import jobs
from workers.cli.views import progress
from workers.cli.views import waiting as reasons


def started(queue: str) -> UUID:
    job = UUID(jobs.add.apply_async(kwargs={"x": 1}, queue=queue).id)
    with autocommit() as connection:
        assert ledger.claim(connection, job, "a worker", 600) is not None
    return job


def watched(queue: str, monkeypatch: pytest.MonkeyPatch) -> tuple[UUID, list[str]]:
    """A job that is watched from its submission to this queue until a second line is said, and the lines."""
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            canvas.cancel(waiting)

    monkeypatch.setattr(reasons, "PATIENCE_S", 0.0)
    monkeypatch.setattr(progress, "note", tell)
    waiting = UUID(jobs.add.apply_async(kwargs={"x": 1}, queue=queue).id)
    progress.watch(waiting, "tests.add", quiet=False)
    return waiting, said


def test_waiting_says_once_what_is_ahead_on_the_queues_of_the_class(
    clean_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "taken", lambda queue: True)
    first, _, _ = started("gpu"), started("gpu.edit"), started("cpu")

    waiting, said = watched("gpu", monkeypatch)

    assert said[0] == f"waiting for tests.add {waiting}"
    assert said[1].startswith(f"queued on gpu behind tests.add {str(first)[:8]}, running for ")
    assert said[1].endswith(", and 1 more")
    assert len(said) == 2


def test_patience_begins_when_a_job_is_due_however_long_it_has_been_watched(
    clean_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    clock = [1000.0]
    job = UUID(jobs.add.apply_async(kwargs={"x": 1}, countdown=600).id)

    def looks(_: UUID, **__: float) -> Iterator[None]:
        yield
        clock[0] += 60  # its children took so long
        with autocommit() as connection:
            connection.execute(text("UPDATE job SET run_at = now()"))
        yield
        assert len(said) == 2  # that it waits for the job, and that it is due later
        clock[0] += reasons.PATIENCE_S
        yield

    monkeypatch.setattr(progress.listen, "until_final", looks)
    monkeypatch.setattr(reasons, "monotonic", lambda: clock[0])
    monkeypatch.setattr(reasons, "taken", lambda queue: True)
    monkeypatch.setattr(progress, "note", said.append)
    progress.watch(job, "tests.add", quiet=False)

    assert said[1:] == [
        "due in 10 min",
        "queued on cpu where nothing runs: is a worker there? `gristmill doctor` tells",
    ]


def test_only_a_job_that_is_due_is_behind_something(clean_db: Path) -> None:
    running = started("gpu")
    later = UUID(jobs.add.apply_async(kwargs={"x": 1}, queue="gpu", countdown=600).id)
    alone = UUID(jobs.add.apply_async(kwargs={"x": 1}, queue="cpu").id)

    with autocommit() as connection:
        assert (ahead(connection, running), ahead(connection, later)) == (None, None)
        nothing = ahead(connection, alone)

    assert nothing is not None
    assert (nothing.queue, nothing.id, nothing.others) == ("cpu", None, 0)
    assert reasons.behind(nothing) == "where nothing runs: is a worker there? `gristmill doctor` tells"


@pytest.mark.usefixtures("worker")
def test_a_queue_that_no_worker_takes_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    started("gpu")

    _, said = watched("gpu.fancy", monkeypatch)

    start = "`gristmill worker gpu --queue gpu.fancy` starts one"
    assert said[1:] == [f"queued on gpu.fancy and no worker that answers takes it: {start}"]
    assert reasons.taken("cpu")


def test_of_what_waits_off_a_terminal_a_line_is_said_at_its_beginning_and_then_of_change_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(reasons, "monotonic", lambda: clock[0])
    news = reasons.News()

    def said(kind: str, line: str, later: float = 0) -> bool:
        clock[0] += later
        return news.is_due(reasons.Reason(kind, line))

    assert [said("queued", "behind a"), said("queued", "behind b"), said("queued", "behind c", 600)] == [1, 0, 0]
    assert [said("children", "1 of 4"), said("children", "2 of 4"), said("children", "2 of 4", 40)] == [1, 0, 1]
    assert [said("children", "2 of 4", 40), said("attempt", "in 8 s"), said("children", "3 of 4")] == [0, 1, 1]


@pytest.mark.usefixtures("worker")
def test_a_parent_waits_for_its_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        if line.startswith("waits"):
            (tmp_path / "go").touch()

    monkeypatch.setattr(reasons, "PATIENCE_S", 600.0)
    monkeypatch.setattr(progress, "note", tell)
    parent = UUID(jobs.fan_steps.submit(n=2, go=str(tmp_path / "go")).id)
    progress.watch(parent, "tests.fan_steps", quiet=False)

    assert len(said) == 2
    assert said[1].startswith("waits: 0 of 2 children")


def test_a_job_that_failed_waits_for_its_next_attempt(clean_db: Path) -> None:
    job = started("cpu")
    with autocommit() as connection:
        assert ledger.fail(connection, job, 1, {"type": "ValueError", "message": "it broke\nmore"}, permanent=False)
        connection.execute(text("UPDATE job SET run_at = now() + interval '10 minutes'"))
        found = reasons.Reasons().of(read.pulse(connection, job), ahead(connection, job))

    assert found == reasons.Reason("attempt", "next attempt in 10 min, after: it broke")


def test_what_ended_well_is_done_and_shows_no_progress(clean_db: Path) -> None:
    job = started("cpu")
    with autocommit() as connection:
        ledger.progress(connection, job, 1, {"done": 25, "total": 30})
        running = read.show(connection, str(job))
        ledger.succeed(connection, job, 1, 42)
        ended = read.show(connection, str(job))

    assert (running.progress, ended.progress) == ({"done": 25, "total": 30}, None)
