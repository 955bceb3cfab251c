"""Promise 6: Postgres is away at a submission, at a job's start, while it runs and at its end, and nothing is lost."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest

import db.engine
from broker.errors import Unavailable
from broker.publish import publish
from broker.settings import make_client
from broker.submit import nudge
from db import ledger
from db.engine import autocommit
from db.ledger import NewJob
from tests.chaos.ledger import all_ids, starts, states, wait_for_all
from tests.chaos.outage_jobs import JOBS, fan, wait
from tests.chaos.servers import postgres_away, until
from tests.jobs import nothing
from tests.processes import Process, start_relay, start_worker

LEASE_S = 3
ENV = {"GRISTMILL_LEASE_SECONDS": str(LEASE_S), "GRISTMILL_JOBS": JOBS}


@pytest.fixture(scope="module")
def worker(services: Path) -> Iterator[Process]:
    """Seven processes, which live through every outage in this file."""
    started = start_worker(services, concurrency=7, **ENV)
    yield started
    started.kill()


@pytest.fixture
def relay(quiet: Path) -> Iterator[Process]:
    started = start_relay(quiet, **ENV)
    yield started
    started.kill()


@pytest.fixture(scope="session")
def outage_s(full: bool) -> float:
    """Longer than the lease in any case."""
    return 60 if full else 2 * LEASE_S


class Waiting:
    """A job that goes on when it is told, and says when its body has ended."""

    def __init__(self, folder: Path, **params: object) -> None:
        self.go, self.ended = folder / f"{uuid4()}.go", folder / f"{uuid4()}.ended"
        self.result = wait.submit(go=str(self.go), ended=str(self.ended), **params)
        self.id = str(self.result.id)
        until(lambda: starts([self.id])[self.id] == 1)


@pytest.mark.parametrize("how", ["stopped", "killed", "paused"])
def test_jobs_and_their_results_outlive_an_outage_of_postgres(
    how: str, quiet: Path, worker: Process, relay: Process, tmp_path: Path, outage_s: float,
    figure: Callable[[int, str], None],
) -> None:  # fmt: skip
    ending, writing, running = (
        Waiting(tmp_path, report=False), Waiting(tmp_path, report=False, write=True), Waiting(tmp_path),
    )  # fmt: skip
    children = tmp_path / "children.go"
    parent = fan.submit(go=str(children), ended=str(tmp_path / "child"), n=2)
    later = fan.submit(go=str(children), ended=str(tmp_path / "other"), n=2, begin=str(tmp_path / "begin"))
    until(lambda: states() == {"STARTED": 6, "PENDING": 1} and (tmp_path / "stands").exists())
    starting = NewJob(uuid4(), nothing.name, "cpu", 3, {})
    ids = [ending.id, writing.id, running.id, parent.id, later.id, str(starting.id)]

    with ThreadPoolExecutor(1) as pool:
        looked = Event()
        client = pool.submit(ending.result.get, timeout=outage_s + 90, on_interval=looked.set)
        assert looked.wait(30)
        with autocommit() as connection:  # just now, or the relay would find that its message is missing
            ledger.submit(connection, [starting])
        began = time.monotonic()
        with postgres_away(quiet, how):
            publish([nudge(starting)])
            for go in (ending.go, writing.go, children, tmp_path / "begin"):
                go.touch()
            with make_client() as redis:
                until(lambda: redis.hlen("unacked") == 7)  # the worker has taken it
            until(lambda: ending.ended.exists() and (tmp_path / "child.1").exists())
            time.sleep(max(0.0, began + outage_s - time.monotonic()))
        back_at = time.monotonic()
        running.go.touch()
        wait_for_all(ids, within_s=90)
        took = time.monotonic() - back_at
        assert client.result(timeout=30) == "gone"

    assert states() == {"SUCCESS": 10}
    assert parent.get() == later.get() == 2
    once = [ending.id, writing.id, running.id, str(starting.id)]
    assert starts(once) == dict.fromkeys(once, 1)
    assert starts([parent.id, later.id]) == {parent.id: 2, later.id: 2}  # before and after its children
    figure(6, f"Postgres {how} for {outage_s:g} s (lease {LEASE_S} s) at a job's start, middle and end, in fan-outs "
              f"and in a waiting client: 10 of 10 done {took:.1f} s after it is back, none started again")  # fmt: skip


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_submission_while_postgres_is_away_says_so_at_once(
    how: str, quiet: Path, figure: Callable[[int, str], None]
) -> None:
    kept = nothing.submit()
    with postgres_away(quiet, how):
        began = time.monotonic()
        # Killed, it may still have taken the statement: then nobody can say what became of it.
        with pytest.raises(
            Unavailable, match=r"(nothing was recorded, Postgres|to Postgres broke).*submit again"
        ) as said:
            nothing.submit()
        took = time.monotonic() - began
        with pytest.raises(Unavailable):
            nothing.submit_many([{}, {}])

    assert "\n" not in str(said.value)
    assert took < 2
    assert all_ids() == [kept.id]
    assert nothing.submit().id in all_ids()
    figure(6, f"Postgres {how} at a submission: {type(said.value).__name__} after {took:.1f} s, nothing recorded")


def test_a_submission_while_postgres_hangs_is_given_up(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db.engine, "ANSWER_S", 0.5)
    kept = nothing.submit()
    with (
        postgres_away(quiet, "paused"),
        # On a connection of the pool, or on a new one where there was none.
        pytest.raises(
            Unavailable, match=r"(has not answered for 0\.5 s|nothing was recorded, Postgres does not answer)"
        ),
    ):
        nothing.submit()

    assert kept.id in all_ids()
    assert nothing.submit().id in all_ids()


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_relay_that_starts_after_an_outage_leaves_its_jobs_to_those_that_run_them(
    how: str, quiet: Path, worker: Process, tmp_path: Path, outage_s: float
) -> None:
    job = Waiting(tmp_path, report=False)
    with postgres_away(quiet, how):
        time.sleep(LEASE_S + 1)  # the lease runs out

    late = start_relay(quiet, **ENV)
    try:
        job.go.touch()
        wait_for_all([job.id], within_s=30)
    finally:
        late.kill()

    assert starts([job.id]) == {job.id: 1}
