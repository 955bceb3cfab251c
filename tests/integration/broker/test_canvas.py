"""The canvas as a process that never imported the jobs sees it: a relay, or a client that cancels."""

import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from celery import chain, chord
from celery.canvas import Signature
from sqlalchemy import select, text

from broker import relay
from broker.app import app
from broker.errors import UnknownJob
from broker.publish import queued_ids
from db import ledger
from db.engine import autocommit, session
from db.job import Job
from tests.jobs import add, echo, total

pytestmark = pytest.mark.usefixtures("clean_db")

RELAY = "import os; os.environ['GRISTMILL_JOBS'] = 'tests.jobs'; from broker import relay; print(relay.tick())"


def run(job_id: str, result: object = 1) -> None:
    """What a worker does that dies between a job's end and what follows it."""
    with autocommit() as connection:
        claimed = ledger.claim(connection, UUID(job_id), "w", 60)
        assert claimed is not None
        assert ledger.succeed(connection, claimed.id, claimed.attempt, result)


def kinds() -> dict[str, str]:
    with session() as opened:
        return {row.kind: row.state for row in opened.scalars(select(Job))}


def fresh_relay() -> None:
    done = subprocess.run([sys.executable, "-c", RELAY], cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_relay_goes_on_with_a_chain_and_a_chord_whose_worker_died() -> None:
    linked = chain(add.s(1), echo.s()).delay()
    header = chord([add.s(1)], total.s()).delay().parent
    run(linked.parent.id)
    run(header.results[0].id)

    fresh_relay()

    assert kinds() == {"tests.add": "SUCCESS", "tests.echo": "PENDING", "tests.total": "PENDING"}
    assert UUID(linked.id) in queued_ids("cpu")


def test_a_job_that_is_sent_by_its_name_is_recorded() -> None:
    result = app.send_task("tests.add", kwargs={"x": 1}, countdown=5)

    with session() as opened:
        assert opened.scalars(select(Job.id)).one() == UUID(result.id)
    with pytest.raises(UnknownJob, match=r"unknown job 'tests.ad': did you mean tests.add"):
        app.send_task("tests.ad")


def test_a_link_of_an_unknown_kind_is_a_failed_job_that_says_so() -> None:
    result = chain(add.s(1), Signature("tests.gone", app=app)).delay()
    run(result.parent.id)

    relay.tick()

    with session() as opened:
        row = opened.get_one(Job, UUID(result.id))
        assert row.state == "FAILURE"
        assert "unknown job 'tests.gone'" in (row.error or {})["message"]


def test_a_link_whose_id_is_taken_does_not_hold_up_the_relay() -> None:
    taken = echo.delay(1)
    first = add.apply_async((1,), link=echo.s().set(task_id=taken.id))
    run(first.id)
    due = add.apply_async((1,), countdown=-1)
    with autocommit() as connection:
        connection.execute(text("UPDATE job SET sent_at = NULL WHERE id = :id"), {"id": due.id})

    assert relay.tick().sent == 1
    assert relay.tick().followed in (0, 1)
