"""Each worker says what memory it uses, of its GPUs and of the host: for the metrics.

Importing this module adds it to the worker's steps; celeryconfig's `imports` does so.
"""

import random
import threading
from typing import Any

import psutil
from celery import bootsteps
from celery.signals import worker_shutdown
from sqlalchemy.exc import SQLAlchemyError

from broker.app import app
from broker.identity import worker_name
from db import memory
from db.engine import autocommit
from db.memory import SAY_S, Used
from workers import hardware


def look(worker: str) -> list[Used]:
    """The host's memory that this process and its children use, and of each GPU that it may use what all use."""
    me = psutil.Process()
    taken = 0
    for process in (me, *me.children(recursive=True)):
        try:
            taken += process.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
    host = Used(worker, "host", taken, hardware.host_bytes())
    return [host, *(Used(worker, each.device, each.used, each.total) for each in hardware.gpu_memory())]


class MemoryStep(bootsteps.StartStopStep):
    """A thread of its own: asking a driver may take long, and leases are not to wait for it."""

    requires = ("workers.lease:LeaseStep",)  # which gives the worker its name

    def __init__(self, parent: Any, **options: Any) -> None:
        self._worker = worker_name(parent.hostname)
        self._ended = threading.Event()
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """The worker starts."""
        worker_shutdown.connect(self._end, weak=False)
        threading.Thread(target=self._run, name="memory", daemon=True).start()

    def _run(self) -> None:
        while not self._ended.wait(SAY_S * random.uniform(0.8, 1.2)):
            try:
                found = look(self._worker)
                with autocommit() as connection:
                    memory.say(connection, found)
            except SQLAlchemyError:
                continue  # Postgres is away: others tell

    def _end(self, **_: Any) -> None:
        self._ended.set()
        try:
            with autocommit() as connection:
                memory.forget(connection, self._worker)
        except SQLAlchemyError:
            return


app.steps["worker"].add(MemoryStep)
