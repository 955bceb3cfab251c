"""Cancelling: at once when queued, soon at a checkpoint, by force when a job never looks; its memory comes back."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from sqlalchemy import text

from db.engine import autocommit
from tests import jobs
from tests.chaos.servers import until
from tests.processes import Process, start_relay, start_worker
from tests.rows import row

GRACE_S = 1


@pytest.fixture
def worker(quiet: Path) -> Iterator[Process]:
    relay = start_relay(quiet)
    process = start_worker(quiet, name="cancel", concurrency=1, GRISTMILL_CANCEL_GRACE_SECONDS=str(GRACE_S))
    yield process
    process.stop()
    relay.stop()


def seconds_to_cancel(job: AsyncResult) -> float:
    began = time.monotonic()
    job.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        job.get(timeout=60)
    return time.monotonic() - began


def megabytes(worker: Process) -> int:
    processes = [psutil.Process(worker.popen.pid), *psutil.Process(worker.popen.pid).children(recursive=True)]
    return sum(each.memory_info().rss for each in processes) >> 20


def test_a_queued_job_is_cancelled_at_once(quiet: Path, figure: Callable[[int, str], None]) -> None:
    took = seconds_to_cancel(jobs.add.submit(x=1))

    assert took < 1
    figure(11, f"cancelled while queued: {took * 1000:.0f} ms")


def test_a_running_job_stops_at_its_next_checkpoint(
    worker: Process, tmp_path: Path, figure: Callable[[int, str], None]
) -> None:
    job = jobs.step.submit(go=str(tmp_path / "never"))
    until(lambda: row(job.id).progress is not None)

    took = seconds_to_cancel(job)

    assert took <= 2
    figure(11, f"cancelled while running, at a checkpoint: {took:.1f} s")


def test_a_job_that_never_looks_is_killed_and_its_memory_comes_back(
    worker: Process, figure: Callable[[int, str], None]
) -> None:
    jobs.add.submit(x=1).get(timeout=60)
    before = megabytes(worker)
    job = jobs.hoard.submit(megabytes=300)
    until(lambda: row(job.id).progress is not None)
    held = megabytes(worker)

    took = seconds_to_cancel(job)
    jobs.add.submit(x=1).get(timeout=60)  # a new process serves, by the same worker
    after = megabytes(worker)

    assert held >= before + 300
    assert after <= before + 30
    assert took <= GRACE_S + 2
    figure(
        11, f"killed in a loop that never looks: {took:.1f} s (grace {GRACE_S} s); MB {before}, {held}, {after} after"
    )


def test_a_job_whose_row_is_gone_is_killed_so_that_the_next_one_runs(worker: Process) -> None:
    gone = jobs.hoard.submit(megabytes=1)
    until(lambda: row(gone.id).progress is not None)

    with autocommit() as connection:
        connection.execute(text("DELETE FROM job WHERE id = :id"), {"id": gone.id})

    worker.wait_for("lost_job_killed", timeout=GRACE_S + 10)
    assert jobs.add.submit(x=1, y=1).get(timeout=60) == 2
