"""Waiting for a job that is not started says what it is behind."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from broker import canvas
from db import ledger
from db.ahead import ahead
from db.engine import autocommit
from tests import jobs
from workers.cli.views import progress


def started(queue: str) -> UUID:
    job = UUID(jobs.add.apply_async(kwargs={"x": 1}, queue=queue).id)
    with autocommit() as connection:
        assert ledger.claim(connection, job, "a worker", 600) is not None
    return job


def test_waiting_says_once_what_is_ahead_on_the_queues_of_the_class(
    clean_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            canvas.cancel(waiting)

    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setattr(progress, "note", tell)
    first, _, _ = started("gpu"), started("gpu.edit"), started("cpu")
    waiting = UUID(jobs.add.apply_async(kwargs={"x": 1}, queue="gpu").id)

    progress.watch(waiting, "tests.add", quiet=False)

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
        assert len(said) == 1  # that it waits for the job
        clock[0] += progress.PATIENCE_S
        yield

    monkeypatch.setattr(progress.listen, "until_final", looks)
    monkeypatch.setattr(progress, "monotonic", lambda: clock[0])
    monkeypatch.setattr(progress, "note", said.append)
    progress.watch(job, "tests.add", quiet=False)

    assert said[1:] == ["queued on cpu where nothing runs: is a worker there? `gristmill doctor` tells"]


def test_only_a_job_that_is_due_is_behind_something(clean_db: Path) -> None:
    running = started("gpu")
    later = UUID(jobs.add.apply_async(kwargs={"x": 1}, queue="gpu", countdown=600).id)
    alone = UUID(jobs.add.apply_async(kwargs={"x": 1}, queue="cpu").id)

    with autocommit() as connection:
        assert (ahead(connection, running), ahead(connection, later)) == (None, None)
        nothing = ahead(connection, alone)

    assert nothing is not None
    assert (nothing.queue, nothing.id, nothing.others) == ("cpu", None, 0)
    assert progress.behind(nothing) == "where nothing runs: is a worker there? `gristmill doctor` tells"
