"""Renews the leases of a worker's jobs from a thread of its parent process, outside the processes that compute.

The same statement's answer carries cancellations: a job that does not stop by itself within the grace period has its
process killed, unless others run with it in a batch; so has one that is no longer this worker's. On SIGTERM the worker
takes no more jobs; those that run have a grace period to end or to hand over at a checkpoint, then they are given back.
What Celery no longer counts as active (its process died) is not renewed, and the relay takes it back.
Importing this module adds it to the worker's steps; celeryconfig's `imports` does so.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
from celery import bootsteps
from celery.signals import worker_shutdown, worker_shutting_down
from celery.worker import state
from sqlalchemy.exc import OperationalError

from broker.app import app
from broker.canvas import settled
from broker.identity import begin, worker_name
from broker.settings import settings
from broker.transport import take_no_more
from db import lease, ledger
from db.engine import autocommit
from db.lease import Held
from db.ledger import Lost
from workers import stopping

log = structlog.get_logger()

RENEW_S = 1.0
ASK_S = 0.2  # while the worker is being stopped: a job may be taken at the last moment


class Keeper:
    """The lease thread of one worker."""

    def __init__(
        self, worker: str, active: Callable[[], dict[UUID, int | None]], processes: Callable[[], list[int]]
    ) -> None:
        """`active` gives the worker's running jobs and the pid of the process of each, `processes` all of its pids."""
        self._worker, self._active, self._processes = worker, active, processes
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._stopping_since: float | None = None
        self._taken_since: dict[UUID, float] = {}
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """The worker has ended, having finished its jobs."""
        self._stop.set()
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def worker_stops(self) -> None:
        """The worker takes no more jobs: those that run have the grace period to end or to hand over."""
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            self._wake.set()

    def give_back(self) -> None:
        """The worker ends without waiting: return its jobs to the queue, uncharged, and end its processes.

        By the ledger's word for what runs here: Celery has already forgotten what it cancelled. In this order, or
        Celery would report the ended processes as lost first, and the jobs would be charged.
        """
        self.stop()
        with contextlib.suppress(OperationalError), autocommit() as connection:
            if count := lease.give_back(connection, self._worker):
                log.info("jobs_given_back", count=count)
        for pid in self._processes():
            _kill(pid)

    def renew(self) -> None:
        """One round: renew, and kill what should have stopped longer ago than the grace period."""
        active = self._active()
        if not active:
            return
        with autocommit() as connection:
            held = lease.renew(connection, active, self._worker, settings().lease_seconds)
            missed = active.keys() - held.keys() - {job.leader_id for job in held.values()}
            taken = lease.taken(connection, missed, self._worker) if missed else set()
        self._end_taken(taken)
        grace_s = settings().cancel_grace_seconds
        late = {job_id for job_id, job in held.items() if (job.cancel_requested_s or 0) > grace_s}
        for leader_id in {held[job_id].leader_id or job_id for job_id in late}:
            together = {job_id for job_id, job in held.items() if leader_id in (job_id, job.leader_id)}
            # The process is not killed while others than the cancelled run in it: those end with their batch.
            self._revoke(leader_id, {job_id: held[job_id] for job_id in together & late}, kill=together <= late)

    def _end_taken(self, taken: set[UUID]) -> None:
        """A body that never looks would go on to its end, on the device that the next one needs, for nobody."""
        now = time.monotonic()
        self._taken_since = {job_id: self._taken_since.get(job_id, now) for job_id in taken}
        for job_id, since in self._taken_since.items():
            pid = self._active().get(job_id)
            if pid is not None and now - since > settings().cancel_grace_seconds:
                log.warning(
                    "lost_job_killed", job_id=str(job_id), pid=pid, reason="its lease was lost: nobody wants it"
                )
                _kill(pid)

    def _revoke(self, leader_id: UUID, late: dict[UUID, Held], *, kill: bool) -> None:
        pid = self._active().get(leader_id)
        revoked: list[Lost] = []
        for job_id, job in late.items():
            which = {"job_id": str(job_id), "kind": job.kind, "attempt": job.attempt}
            log.warning("cancelled_by_force", **which, pid=pid if kill else None)
            with autocommit() as connection:
                revoked += ledger.revoke(connection, job_id, job.attempt)
        if kill and revoked and pid is not None and self._active().get(leader_id) == pid:
            _kill(pid)
        settled(revoked)

    def _hurry(self) -> None:
        """The worker is being stopped: tell its jobs, and when their time is up, end it."""
        if self._stopping_since is None:
            return
        if time.monotonic() - self._stopping_since > settings().stop_grace_seconds:
            log.warning("stop_grace_over", reason="jobs still ran: they are given back and go on elsewhere")
            self.give_back()
            os._exit(0)  # Celery would wait for the jobs
        stopping.ask(pid for pid in self._active().values() if pid is not None)

    def _run(self) -> None:
        # Often enough that two failed rounds do not lose a lease, and that a cancellation is heeded in time.
        period = min(settings().lease_seconds / 4, RENEW_S)
        renew_at = 0.0
        while not self._stop.is_set():
            self._guarded(self._hurry)
            if time.monotonic() >= renew_at:
                renew_at = time.monotonic() + period * random.uniform(0.8, 1.2)
                self._guarded(self.renew)
            pause = max(0.0, renew_at - time.monotonic())
            self._wake.wait(pause if self._stopping_since is None else min(pause, ASK_S))
            self._wake.clear()

    def _guarded(self, part: Callable[[], None]) -> None:
        try:
            part()
        except OperationalError as error:
            log.warning("leases_not_renewed", reason=str(error).split("\n")[0])
        except Exception:
            log.exception("lease_round_failed")  # the thread must outlive any one round


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _active_requests() -> dict[UUID, int | None]:
    running = {}
    for request in list(state.active_requests):
        with contextlib.suppress(ValueError):
            running[UUID(request.id)] = getattr(request, "worker_pid", None)
    return running


class LeaseStep(bootsteps.StartStopStep):
    """Ties a keeper to the worker. It keeps renewing while a warm shutdown waits for running jobs."""

    requires = ("celery.worker.components:Pool",)  # whose processes are forked while there is no thread

    def __init__(self, parent: Any, **options: Any) -> None:
        begin()

        def processes() -> list[int]:
            pool = getattr(parent.pool, "_pool", None)
            return [each.pid for each in getattr(pool, "_pool", ())]

        self.keeper = Keeper(worker_name(parent.hostname), _active_requests, processes)
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """The worker starts."""
        worker_shutting_down.connect(self._told, weak=False)
        worker_shutdown.connect(lambda **_: self.keeper.stop(), weak=False)
        self.keeper.start()

    def _told(self, **_: Any) -> None:
        take_no_more()
        self.keeper.worker_stops()

    def terminate(self, parent: Any) -> None:
        """A cold shutdown."""
        self.keeper.give_back()


app.steps["worker"].add(LeaseStep)
