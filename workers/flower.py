"""Flower with the ledger behind it: `gristmill flower` becomes this program.

Celery's Flower knows what it was told while it listened. Its own remedy is a pickled file of what it knew when it
stopped; jobs that ended meanwhile stay STARTED there for ever, and those that ran along in another's batch send no
events at all. Here it reads from the ledger what moved, when it starts and every few seconds.
"""

import asyncio
import logging
import sys
from collections.abc import Iterator
from typing import Any

import flower.app
import structlog
from celery.__main__ import main as celery
from celery.events.state import State
from flower.events import Events
from sqlalchemy.exc import SQLAlchemyError
from tornado.ioloop import PeriodicCallback

from broker.log import handle
from db.engine import autocommit
from db.recent import Moved, moved
from db.settings import SettingsError, redact

log = structlog.get_logger()

LOOK_MS = 3000
MOST = 20_000  # moves that are read at once; a job makes two or three


class LedgerEvents(Events):
    """What Flower knows: the workers' events as they come, and the ledger's rows where those said nothing."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"persistent": False})
        self._after = 0
        self._away = False
        self._ledger = PeriodicCallback(self._look, LOOK_MS, jitter=0.2)
        self._learn(self._read())

    def start(self) -> None:
        """See Flower."""
        super().start()
        self._ledger.start()

    def stop(self) -> None:
        """See Flower."""
        self._ledger.stop()
        super().stop()

    async def _look(self) -> None:
        self._learn(await asyncio.get_running_loop().run_in_executor(None, self._read))

    def _read(self) -> list[Moved]:
        try:
            with autocommit() as connection:
                found = moved(connection, self._after, MOST)
        except (SQLAlchemyError, SettingsError) as error:
            if not self._away:
                log.warning("ledger_not_read", reason=redact(str(error).split("\n")[0]))
            self._away = True
            return []
        self._away = False
        return found

    def _learn(self, found: list[Moved]) -> None:
        """In the thread of the event loop, as Flower's state requires."""
        for job in found:
            self._after = max(self._after, job.event_id)
            known = self.state.tasks.data.get(str(job.id))
            if known is not None and known.state == job.state and known.name:
                continue
            evicted = self.state._eviction_candidate(str(job.id))
            for event in events(job):
                # Not Flower's own: its counters are of what the workers say, and would count these again.
                State.event(self.state, event)
            self.state._index_task(self.state.tasks.data[str(job.id)], evicted)


def events(job: Moved) -> Iterator[dict[str, Any]]:
    """What a worker would have said of the job's last attempt; nothing marks the worker itself as alive."""
    began, ended = job.started_at.timestamp(), (job.finished_at or job.at).timestamp()
    host = job.worker.partition("#")[0]
    common = {"uuid": str(job.id), "hostname": host, "local_received": None, "clock": 0}
    yield {
        **common, "type": "task-received", "timestamp": began, "name": job.kind, "args": "()",
        "kwargs": redact(job.params), "retries": job.attempt - 1, "parent_id": job.parent_id and str(job.parent_id),
        "root_id": str(job.root_id or job.id),
    }  # fmt: skip
    yield {**common, "type": "task-started", "timestamp": began}
    failed = {"exception": redact(f"{job.error}({job.message!r})"), "traceback": redact(job.traceback or "")}
    match job.state:
        case "SUCCESS":
            said = {"result": redact(job.result or "null"), "runtime": ended - began}
            yield {**common, "type": "task-succeeded", "timestamp": ended, **said}
        case "FAILURE":
            yield {**common, "type": "task-failed", "timestamp": ended, **failed}
        case "RETRY":
            yield {**common, "type": "task-retried", "timestamp": ended, **failed}
        case "REVOKED":
            yield {**common, "type": "task-revoked", "timestamp": ended}


if __name__ == "__main__":
    flower.app.Events = LedgerEvents
    handle(logging.getLogger())  # or Flower's own would say things its own way
    sys.argv[1:] = ["--quiet", "--app=broker.app", "flower", *sys.argv[1:]]
    celery()
