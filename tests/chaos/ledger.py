"""Asks the ledger what became of the jobs of a test, and records some without a message."""

import time
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from broker.app import app
from db import ledger, outbox
from db.engine import autocommit, session
from db.ledger import NewJob


def submit_to_the_relay(jobs: Iterable[tuple[str, dict[str, Any]]], queue: str = "cpu") -> list[str]:
    """Record jobs of these kinds and parameters as unsent: their workers' Redis is another than this process's."""
    made = [NewJob(uuid4(), kind, queue, 3, params) for kind, params in jobs]
    with autocommit() as connection:
        ledger.submit(connection, made)
        outbox.unsend(connection, [each.id for each in made])
    return [str(each.id) for each in made]


def wait_for_all(ids: Iterable[str], within_s: float) -> None:
    """Until each is final; raises celery.exceptions.TimeoutError, or what a job ended with."""
    deadline = time.monotonic() + within_s
    for job_id in ids:
        app.AsyncResult(job_id).get(timeout=max(0.1, deadline - time.monotonic()))


def starts(ids: Iterable[str]) -> dict[str, int]:
    """How often each was started, by its history."""
    counted = text(
        "SELECT job_id, count(*) FILTER (WHERE to_state = 'STARTED') FROM job_event WHERE job_id = ANY(:ids) GROUP BY 1"
    )
    with session() as opened:
        found = {str(row[0]): int(row[1]) for row in opened.execute(counted, {"ids": list(ids)})}
    return {job_id: found.get(job_id, 0) for job_id in ids}


def first_start(ids: Iterable[str]) -> float:
    """When the first of them was started, in seconds since 1970."""
    first = text("SELECT extract(epoch FROM min(at)) FROM job_event WHERE job_id = ANY(:ids) AND to_state = 'STARTED'")
    with session() as opened:
        return float(opened.execute(first, {"ids": list(ids)}).scalar_one())


def states() -> dict[str, int]:
    """How many jobs are in each state."""
    with session() as opened:
        return {row[0]: row[1] for row in opened.execute(text("SELECT state, count(*) FROM job GROUP BY 1"))}


def all_ids() -> list[str]:
    """Every job that is recorded."""
    with session() as opened:
        return [str(row[0]) for row in opened.execute(text("SELECT id FROM job"))]
