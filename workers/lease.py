"""Renews the leases of a worker's jobs from a thread of its parent process, outside the processes that compute.

The same statement's answer carries cancellations: a job that does not stop by itself within the grace period has its
process killed. What Celery no longer counts as active (its process died) is not renewed, and the relay takes it back.
Importing this module adds it to the worker's steps; celeryconfig's `imports` does so.
"""

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import structlog
from celery import bootsteps
from celery.signals import worker_shutdown
from celery.worker import state
from sqlalchemy.exc import OperationalError

from broker.app import app
from broker.canvas import settled
from broker.identity import begin, worker_name
from broker.settings import settings
from db import ledger
from db.engine import autocommit

log = structlog.get_logger()


class Keeper:
    """The lease thread of one worker."""

    def __init__(self, worker: str, active: Callable[[], dict[UUID, int | None]]) -> None:
        """`active` gives the worker's running jobs and the pid of the process of each."""
        self._worker, self._active = worker, active
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """The worker has ended, having finished its jobs."""
        self._stop.set()
        self._thread.join(timeout=5)

    def give_back(self, pids: Iterable[int]) -> None:
        """The worker ends without waiting: end its processes, and return their jobs to the queue, uncharged.

        By the ledger's word for what runs here: Celery has already forgotten what it cancelled.
        """
        self.stop()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OperationalError), autocommit() as connection:
            if count := ledger.give_back(connection, self._worker):
                log.info("jobs_given_back", count=count)

    def renew(self) -> None:
        """One round: renew, and kill what was asked to stop longer ago than the grace period."""
        active = self._active()
        if not active:
            return
        with autocommit() as connection:
            held = ledger.renew(connection, active, self._worker, settings().lease_seconds)
        for job_id, (attempt, asked_s_ago) in held.items():
            if asked_s_ago is not None and asked_s_ago > settings().cancel_grace_seconds:
                self._kill(job_id, attempt, active[job_id])

    def _kill(self, job_id: UUID, attempt: int, pid: int | None) -> None:
        log.warning("cancelled_by_force", job_id=str(job_id), pid=pid)
        with autocommit() as connection:
            revoked = ledger.revoke(connection, job_id, attempt)
        if revoked and pid is not None and self._active().get(job_id) == pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        settled(revoked)

    def _run(self) -> None:
        # Often enough that two failed rounds do not lose a lease, and that a cancellation is heeded in time.
        period = min(settings().lease_seconds / 4, 2.0)
        while not self._stop.wait(period * random.uniform(0.8, 1.2)):
            try:
                self.renew()
            except OperationalError as error:
                log.warning("leases_not_renewed", reason=str(error).split("\n")[0])
            except Exception:
                log.exception("lease_round_failed")  # the thread must outlive any one round


def _active_requests() -> dict[UUID, int | None]:
    running = {}
    for request in list(state.active_requests):
        with contextlib.suppress(ValueError):
            running[UUID(request.id)] = getattr(request, "worker_pid", None)
    return running


class LeaseStep(bootsteps.StartStopStep):
    """Ties a keeper to the worker. It keeps renewing while a warm shutdown waits for running jobs."""

    def __init__(self, parent: Any, **options: Any) -> None:
        begin()
        self.keeper = Keeper(worker_name(parent.hostname), _active_requests)
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """The worker starts."""
        worker_shutdown.connect(lambda **_: self.keeper.stop(), weak=False)
        self.keeper.start()

    def terminate(self, parent: Any) -> None:
        """A cold shutdown."""
        pool = getattr(parent.pool, "_pool", None)
        self.keeper.give_back([each.pid for each in getattr(pool, "_pool", ())])


app.steps["worker"].add(LeaseStep)
