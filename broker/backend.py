"""The ledger as Celery's result backend: AsyncResult, group, chain and chord read the jobs' own rows.

The runner writes a job's outcome itself, fenced; what Celery's workers report here matters only where the runner
cannot speak: its process died, ran out of time or was terminated.
"""

import re
import signal
import traceback as tracebacks
from typing import Any
from uuid import UUID

import structlog
from celery.backends.base import BaseBackend
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import GroupResult
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from broker.canvas import cancel, settled
from broker.identity import worker_name
from broker.limits import check_canvas
from broker.submit import ambient
from db import barrier, lease, ledger, listen, storable
from db.engine import autocommit
from db.job import Job
from db.settings import redact

log = structlog.get_logger()

# What a signal that ended a job's process says about the job.
_SIGNALS: dict[int, str] = {
    signal.SIGKILL: " (perhaps out of memory)",
    signal.SIGSEGV: " (segmentation fault): a fault in native code",
    signal.SIGBUS: " (bus error): a fault in native code, or a file that it maps was cut short",
    signal.SIGILL: " (illegal instruction): native code that was built for another processor",
    signal.SIGABRT: " (abort): a check in native code failed",
}
MESSAGE_CHARACTERS = 4_000  # of an error: it is copied into the history, into logs and over the wire


class LedgerBackend(BaseBackend):
    """Reads results from the ledger, and waits for them with LISTEN instead of polling."""

    persistent = True
    supports_autoexpire = True  # old rows are upkeep's, not the beat's backend_cleanup

    # What workers report.

    def _store_result(self, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        return result

    def mark_as_done(self, *args: Any, **kwargs: Any) -> None:
        """The runner has settled the job already, and its canvas with it."""

    def mark_as_retry(self, *args: Any, **kwargs: Any) -> None:
        """Retries are the ledger's: the runner has recorded the next attempt."""

    def mark_as_failure(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> None:
        """Called by the worker's parent when the process that ran the job cannot tell what became of it."""
        request = kwargs.get("request")
        try:
            if isinstance(exc, WorkerLostError | TimeLimitExceeded):
                worker = worker_name(getattr(request, "hostname", ""))
                with autocommit() as connection:
                    settled(lease.lose(connection, UUID(task_id), worker, _loss(exc)))
        except (OperationalError, ValueError) as error:  # the lease runs out, and the relay takes the job back
            log.warning("loss_not_recorded", job_id=task_id, reason=str(error).split("\n")[0])

    def mark_as_revoked(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        """A worker terminated the job on somebody's request."""
        cancel(UUID(task_id))
        with autocommit() as connection:
            settled(ledger.revoke(connection, UUID(task_id)))

    # What clients ask.

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        with autocommit() as connection:
            row = connection.execute(select(Job.__table__).where(Job.id == UUID(str(task_id)))).mappings().first()
        if row is None:
            # Either no such job, or a chain's link that is submitted when the one before it is done.
            return {"status": "PENDING", "result": None, "task_id": task_id}
        error = row["error"]
        if row["state"] in ("FAILURE", "RETRY") and error:
            result: Any = {
                "exc_type": error["type"],
                "exc_module": error["module"],
                "exc_message": [error["message"]],
            }
        elif row["state"] == "REVOKED":
            result = {
                "exc_type": "TaskRevokedError",
                "exc_module": "celery.exceptions",
                "exc_message": ["cancelled"],
            }
        else:
            result = row["progress"] if row["state"] == "STARTED" else row["result"]
        return self.meta_from_decoded({
            "status": row["state"], "result": result, "traceback": error and error.get("traceback"), "children": [],
            "task_id": task_id, "date_done": row["finished_at"], "name": row["kind"], "args": [],
            "kwargs": row["params"], "worker": row["worker"], "retries": max(0, row["attempt"] - 1),
            "queue": row["queue"], "parent_id": row["parent_id"] and str(row["parent_id"]),
        })  # fmt: skip

    def wait_for(
        self, task_id: str, timeout: float | None = None, interval: float = 0.5, no_ack: bool = True,
        on_interval: Any = None,
    ) -> Any:  # fmt: skip
        """Wait until the job is final. Raises celery.exceptions.TimeoutError."""
        self._ensure_not_eager()
        try:
            for _ in listen.until_final(UUID(str(task_id)), timeout):
                if on_interval:
                    on_interval()
        except TimeoutError as error:
            raise CeleryTimeoutError(str(error)) from None
        return self.get_task_meta(task_id)

    def _forget(self, task_id: str) -> None:
        """A final job's result is dropped; its row and history stay."""
        with autocommit() as connection:
            ledger.forget(connection, UUID(str(task_id)))

    def _save_group(self, group_id: str, result: Any) -> Any:
        return result  # the rows name their group

    def _delete_group(self, group_id: str) -> None:
        """Groups are read from the rows of their jobs, so there is nothing to delete."""

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        with autocommit() as connection:
            parts = barrier.group(connection, UUID(str(group_id)))
        if not parts:
            return None
        results = [self.app.AsyncResult(str(part["id"])) for part in parts]
        return {"task_id": group_id, "result": GroupResult(str(group_id), results, app=self.app)}

    def apply_chord(self, header_result_args: Any, body: Any, **options: Any) -> None:
        """Record what the header's end sets off; its parts are counted from their rows."""
        group_id, results = UUID(str(header_result_args[0])), header_result_args[1]
        check_canvas("a chord's body", body)
        size = body.get("chord_size") or body.options.get("chord_size") or len(results)
        if session := ambient():
            barrier.wait_for(session, group_id, size, body=dict(body))
            return
        with autocommit() as connection:
            barrier.wait_for(connection, group_id, size, body=dict(body))

    def ensure_chords_allowed(self) -> None:
        """Chords are native here: no polling task."""


def describe(error: BaseException, message: str | None = None) -> dict[str, Any]:
    """An exception as the ledger keeps it."""
    name = type(error).__name__
    lines = tracebacks.format_exception(error) if error.__traceback__ else []
    return {
        "type": name,
        "module": type(error).__module__,
        "message": _kept(message or _said(error) or name),
        "traceback": "".join(map(_kept, lines))[-16_000:] or None,
    }


def _kept(text: str) -> str:
    """What a row keeps: an error may be of any size, and may quote the URL of the server that it did not reach."""
    shown = redact(text[: 2 * MESSAGE_CHARACTERS])  # more than is kept: a cut may go through a password
    if len(text) > MESSAGE_CHARACTERS:
        shown = f"{shown[:MESSAGE_CHARACTERS]}… ({len(text):,} characters)"
    return storable.clean(shown)


def _said(error: BaseException) -> str:
    """Its message; an exception of the user's may fail to give one."""
    try:
        return str(error) or ("out of memory" if isinstance(error, MemoryError) else "")
    except Exception as failed:
        return f"{type(error).__name__} without a message: its __str__ raised {type(failed).__name__}"


def _loss(exc: WorkerLostError | TimeLimitExceeded) -> dict[str, Any]:
    if isinstance(exc, TimeLimitExceeded):
        return describe(exc, f"killed: it ran longer than its time limit of {exc.args[0]:g} s")
    said = str(exc)
    if killed := re.search(r"signal (\d+)", said):
        number = int(killed[1])
        said = f"the job's process was killed by signal {number}{_SIGNALS.get(number, '')}"
    elif left := re.search(r"exitcode (\d+)", said):
        said = f"the job's process ended with exit code {left[1]} before the job did"
    return describe(exc, said)
