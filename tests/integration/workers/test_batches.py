"""Batches on a real worker of one process: each job of one ends on its own, and once, whatever befalls the others."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from celery import chain, group
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from sqlalchemy import text

from broker.app import app
from broker.submit import within
from db.engine import autocommit, session
from db.job import Job
from tests.jobs import add, together, total
from tests.processes import Process, start_worker
from tests.rows import row, starts

QUEUE = "cpu.together"


@pytest.fixture(scope="module")
def one_process(services: Path, relay: Process) -> Iterator[Process]:
    process = start_worker(
        services, name="together", concurrency=1, queues=QUEUE,
        GRISTMILL_LEASE_SECONDS="2", GRISTMILL_CANCEL_GRACE_SECONDS="0.3",
    )  # fmt: skip
    yield process
    process.stop()


@pytest.fixture(scope="module")
def cautious(services: Path) -> Iterator[Process]:
    process = start_worker(services, name="single", concurrency=1, queues="cpu.single", GRISTMILL_BATCHING="off")
    yield process
    process.stop()


@pytest.fixture
def worker(clean_db: Path, one_process: Process) -> Process:
    return one_process


def submit(*jobs: dict[str, Any], queue: str = QUEUE) -> list[AsyncResult]:
    """At once, so that whoever gets the first message finds them all."""
    with session() as opened, within(opened):
        return [together.apply_async(kwargs={"n": n, **job}, queue=queue) for n, job in enumerate(jobs)]


def until(result: AsyncResult, met: Callable[[Job], bool]) -> None:
    while not met(row(result.id)):
        pass


def waiting(tmp_path: Path, many: int) -> tuple[list[AsyncResult], Path]:
    """So many jobs that wait in one call, and the file that lets them go.

    A row that somebody has in hand just then, the relay for one, is passed over and runs later: then once more.
    """
    for again in count():
        go = tmp_path / f"go{again}"
        results = submit(*[{"go": str(go)}] * many)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if all(row(each.id).state == "STARTED" for each in results):
                return results, go
        go.touch()
        for each in results:
            each.get(timeout=30)
    raise AssertionError


def test_jobs_that_wait_run_together_up_to_the_most(worker: Process) -> None:
    results = submit(*[{}] * 11)

    ran = [result.get(timeout=30) for result in results]

    assert {tuple(each) for each in ran} == {(0, 2, 3, 4, 5, 6, 7, 8), (1, 9, 10)}  # 1 has a message of its own
    assert [row(results[n].id).leader_id for n in (0, 2, 9)] == [None, row(results[0].id).id, row(results[1].id).id]


def test_those_of_another_value_never_run_along(worker: Process) -> None:
    results = submit(*({"group": "ab"[n % 2]} for n in range(8)))

    assert [result.get(timeout=30) for result in results] == [[0, 2, 4, 6], [1, 3, 5, 7]] * 4


def test_one_that_is_bad_fails_alone(worker: Process) -> None:
    good, bad, unlucky, odd = submit({}, {"how": "bad"}, {"how": "unlucky"}, {"how": "NaN"})

    assert good.get(timeout=30) == [0, 1, 2, 3]
    with pytest.raises(Exception, match="1 is no good: leave it out"):
        bad.get(timeout=30)
    assert unlucky.get(timeout=30) == [2]
    with pytest.raises(Exception, match="returned what is not JSON"):
        odd.get(timeout=30)
    assert [starts(each.id) for each in (good, bad, unlucky, odd)] == [1, 1, 2, 1]


@pytest.mark.parametrize(("how", "line"), [("raises", "1 cannot be read"), ("short", "returned 0 results for 1 jobs")])
def test_an_error_of_the_whole_is_found_to_be_one_s_own(worker: Process, how: str, line: str) -> None:
    first, wrong, last = submit({}, {"how": how}, {})

    assert [first.get(timeout=30), last.get(timeout=30)] == [[0], [2]]
    with pytest.raises(Exception, match=line):
        wrong.get(timeout=30)
    assert [starts(each.id) for each in (first, wrong, last)] == [2, 2, 2]


def test_one_that_kills_its_process_fails_by_itself_in_the_end(worker: Process) -> None:
    first, poison, last = submit({}, {"how": "kills"}, {})

    assert [first.get(timeout=30), last.get(timeout=30)] == [[0], [2]]
    with pytest.raises(Exception, match="killed by signal 9"):
        poison.get(timeout=30)
    assert [starts(each.id) for each in (first, poison, last)] == [2, 2, 2]


def test_leases_hold_during_a_long_batch(worker: Process, tmp_path: Path) -> None:
    results, go = waiting(tmp_path, 3)
    first_lease = row(results[2].id).lease_until
    assert first_lease is not None

    until(results[2], lambda job: (job.lease_until or first_lease) > first_lease)
    with autocommit() as connection:  # more than a lease has passed
        while not connection.execute(text("SELECT now() > :at"), {"at": first_lease}).scalar():
            pass
    go.touch()

    assert [result.get(timeout=30) for result in results] == [[0, 1, 2]] * 3
    assert [starts(each.id) for each in results] == [1, 1, 1]


@pytest.mark.parametrize("cancelled", [0, 1], ids=["the leader", "a mate"])
def test_whoever_is_cancelled_the_others_end_well(worker: Process, tmp_path: Path, cancelled: int) -> None:
    results, go = waiting(tmp_path, 3)

    results[cancelled].revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        results[cancelled].get(timeout=30)  # by force, once the time of grace is over
    go.touch()

    innocent = [each for each in results if each is not results[cancelled]]
    assert [each.get(timeout=30) for each in innocent] == [[0, 1, 2]] * 2
    assert [starts(each.id) for each in innocent] == [1, 1]


def test_when_all_are_cancelled_their_process_is_killed(worker: Process, tmp_path: Path) -> None:
    results, _ = waiting(tmp_path, 2)

    for result in results:
        result.revoke(terminate=True)

    for result in results:
        with pytest.raises(TaskRevokedError):
            result.get(timeout=30)
    assert submit({})[0].get(timeout=30) == [0]


def test_what_follows_each_goes_on(worker: Process) -> None:
    parts = [together.s(n=n).set(queue=QUEUE) for n in range(3)]
    with session() as opened, within(opened):
        grouped = group(parts).delay()
        summed = chain(together.s(n=7).set(queue=QUEUE), total.s().set(queue=QUEUE), add.s(1).set(queue=QUEUE)).delay()

    assert grouped.get(timeout=30) == [[0, 1, 2, 7]] * 3
    assert summed.get(timeout=30) == 0 + 1 + 2 + 7 + 1


def test_without_batching_each_runs_alone(clean_db: Path, cautious: Process) -> None:
    results = submit(*[{}] * 5, queue="cpu.single")

    assert [result.get(timeout=30) for result in results] == [[n] for n in range(5)]


def test_after_a_worker_was_killed_each_runs_again_and_once(
    worker: Process, cautious: Process, tmp_path: Path
) -> None:  # the last test: it ends the module's worker
    results, go = waiting(tmp_path, 4)
    os.killpg(worker.popen.pid, signal.SIGKILL)
    go.touch()
    app.control.add_consumer(QUEUE, destination=["single@test"])

    assert [result.get(timeout=60) for result in results] == [[0], [1], [2], [3]]
    assert [starts(each.id) for each in results] == [2] * 4
