"""Stock Celery 5.7, default settings, on the same Redis and Postgres: what the queue is measured against.

GRISTMILL_PEER_RESULTS chooses its result backend: "database", "redis" or "none".
"""

import os

from celery import Celery

from broker.settings import redis_url
from db.settings import settings

RESULTS = os.environ.get("GRISTMILL_PEER_RESULTS", "none")


def _backend() -> str | None:
    if RESULTS == "database":
        return "db+" + settings().postgres_url()
    return redis_url() if RESULTS == "redis" else None


app = Celery("peer", broker=redis_url(), backend=_backend())
app.conf.task_default_queue = "peer"
app.conf.broker_connection_retry_on_startup = True


@app.task(name="peer.noop")  # type: ignore[untyped-decorator]
def noop() -> None:
    return None
