"""How a worker's jobs end when something else does: the worker, the parent of a fan-out, or the code that knew them."""

import signal
from pathlib import Path
from uuid import uuid4

import pytest
from celery.exceptions import TaskRevokedError
from sqlalchemy import select

from broker.app import app
from broker.submit import submit
from db.engine import session
from db.job import Job
from db.ledger import NewJob
from tests import jobs
from tests.processes import start_worker

pytestmark = pytest.mark.usefixtures("worker")


def children(parent: str) -> list[Job]:
    with session() as opened:
        return list(opened.scalars(select(Job).where(Job.parent_id == parent)))


def state(job_id: str) -> str:
    with session() as opened:
        return opened.get_one(Job, job_id).state


def test_a_kind_that_no_worker_knows_fails_and_says_so() -> None:
    unknown = NewJob(uuid4(), "tests.unknown", "cpu", 3, {}, max_attempts=2, backoff_s=0.05)

    submit([unknown])

    with pytest.raises(Exception, match=r"no job 'tests\.unknown' is declared on the worker"):
        app.AsyncResult(str(unknown.id)).get(timeout=20)


def test_a_worker_that_is_asked_to_stop_finishes_its_job(clean_db: Path, tmp_path: Path) -> None:
    stopping = start_worker(clean_db, name="stopping", concurrency=1, queues="cpu.stopping")
    try:
        result = jobs.step.apply_async(kwargs={"go": str(tmp_path / "go")}, queue="cpu.stopping")
        while result.state != "STARTED":
            pass

        stopping.popen.terminate()
        stopping.wait_for("Warm shutdown")
        (tmp_path / "go").touch()

        assert result.get(timeout=20) == "gone"
        assert stopping.popen.wait(30) == 0
    finally:
        stopping.kill()


def test_a_cancelled_fan_out_takes_its_children_with_it(tmp_path: Path) -> None:
    result = jobs.fan_steps.submit(n=4, go=str(tmp_path / "never"))
    while len(children(result.id)) < 4 or state(result.id) != "PENDING":
        pass

    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError):
        result.get(timeout=20)
    for child in children(result.id):
        with pytest.raises(TaskRevokedError):
            app.AsyncResult(str(child.id)).get(timeout=20)


def test_a_parent_goes_on_when_a_child_was_cancelled(tmp_path: Path) -> None:
    result = jobs.fan_steps.submit(n=2, go=str(tmp_path / "go"))
    while len(children(result.id)) < 2:
        pass

    app.control.revoke(str(children(result.id)[0].id), terminate=True)
    (tmp_path / "go").touch()

    assert result.get(timeout=20) == 2


def test_a_fan_out_ends_although_all_workers_were_killed_while_it_waited(clean_db: Path, tmp_path: Path) -> None:
    first = start_worker(clean_db, name="first", concurrency=1, queues="cpu.first", GRISTMILL_LEASE_SECONDS="2")
    result = jobs.fan_steps.apply_async(kwargs={"n": 2, "go": str(tmp_path / "go")}, queue="cpu.first")
    while len(children(result.id)) < 2 or state(result.id) != "PENDING":
        pass

    first.popen.send_signal(signal.SIGSTOP)
    first.kill()
    second = start_worker(clean_db, name="second", concurrency=1, queues="cpu.first")
    try:
        (tmp_path / "go").touch()

        assert result.get(timeout=40) == 2
        with session() as opened:
            assert opened.get_one(Job, result.id).spared == 1
    finally:
        second.stop()
