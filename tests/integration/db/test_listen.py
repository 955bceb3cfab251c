"""Waiting for jobs: woken at once, and many at a time."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from db import ledger, listen
from db.engine import session
from db.ledger import NewJob

pytestmark = pytest.mark.usefixtures("clean_db")

WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT state IN%' AND state = 'idle'")


def wait(job_id: UUID) -> float:
    for _ in listen.until_final(job_id, 60, look_every_s=60):
        pass
    return time.monotonic()


def test_forty_threads_of_one_process_wait_at_once_and_are_woken_without_polling() -> None:
    jobs = [NewJob(uuid4(), "tests.add", "cpu", 3, {"x": 1}) for _ in range(40)]
    with session() as opened:
        ledger.submit(opened, jobs)

    with ThreadPoolExecutor(len(jobs)) as pool:
        waiting = [pool.submit(wait, job.id) for job in jobs]
        until = time.monotonic() + 20
        while (found := _count()) < len(jobs) and time.monotonic() < until:
            pass
        with session() as opened:
            for job in jobs:
                ledger.cancel(opened, job.id)
        ended = time.monotonic()

        assert found == len(jobs)
        assert max(each.result(20) for each in waiting) - ended < 10


def test_a_wait_ends_after_its_timeout() -> None:
    job = NewJob(uuid4(), "tests.add", "cpu", 3, {"x": 1})
    with session() as opened:
        ledger.submit(opened, [job])

    with pytest.raises(TimeoutError, match=f"job {job.id} was not final within 0.1 s"):
        list(listen.until_final(job.id, 0.1))


def _count() -> int:
    with session() as opened:
        return opened.execute(WAITING).scalar_one()
