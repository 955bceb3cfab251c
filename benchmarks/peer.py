"""Stock Celery 5.7, default settings, on the same Redis and Postgres: what the queue is measured against.

GRISTMILL_PEER_RESULTS chooses its result backend: "database", "redis" or "none".
GRISTMILL_PEER_VISIBILITY_SECONDS is for the storm (benchmarks/chaos.py): Celery's own is an hour.
"""

import os
import time
from functools import cache
from typing import Any

import psycopg
from celery import Celery, Task

from broker.settings import redis_url
from db.settings import settings
from tests.chaos import history

RESULTS = os.environ.get("GRISTMILL_PEER_RESULTS", "none")
VISIBILITY_S = os.environ.get("GRISTMILL_PEER_VISIBILITY_SECONDS")


def _backend() -> str | None:
    if RESULTS == "database":
        return "db+" + settings().postgres_url()
    return redis_url() if RESULTS == "redis" else None


app = Celery("peer", broker=redis_url(), backend=_backend())
app.conf.task_default_queue = "peer"
app.conf.broker_connection_retry_on_startup = True
if VISIBILITY_S:
    app.conf.broker_transport_options = {"visibility_timeout": float(VISIBILITY_S)}


@app.task(name="peer.noop")  # type: ignore[untyped-decorator]
def noop() -> None:
    return None


@cache
def _connection(_pid: int) -> "psycopg.Connection[Any]":
    """One for each process of the pool."""
    return psycopg.connect(settings().postgres_url().replace("+psycopg", "", 1), autocommit=True)


# The options with which Celery promises to run a task again whose process or worker died.
@app.task(name="peer.work", bind=True, acks_late=True, reject_on_worker_lost=True)  # type: ignore[untyped-decorator]
def work(self: Task, serial: int, ms: float) -> int:
    """What tests/chaos/jobs.py's `work` does: a trace, a pause, an effect. Celery has no fence to write it behind."""
    on = _connection(os.getpid())
    began = {"serial": serial, "job_id": self.request.id, "attempt": None}
    run = on.execute(history.BEGIN, began | history.here()).fetchone()[0]  # type: ignore[index]
    time.sleep(ms / 1000)
    on.execute(history.EFFECT, {"serial": serial, "run": run})
    return serial
