"""What happens after a job is final: the canvas (chain, link, chord) goes on, and barriers open.

Each step is one transaction that first takes the work on with a conditional statement, so that it happens once,
whoever does it: the worker that ended the job, or the relay when that worker died in between.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any
from uuid import UUID

import structlog
from celery.canvas import Signature, maybe_signature
from celery.exceptions import ChordError
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import SessionTransaction

from broker.app import app
from broker.errors import ChainError, GristmillError
from broker.job import Job
from broker.submit import ambient, submit, within
from db import barrier, ledger
from db.engine import session
from db.ledger import DuplicateId, Lost, NewJob
from db.state import FINAL

log = structlog.get_logger()


def cancel(job_id: UUID, *, running: bool = True) -> list[Lost]:
    """Cancel a job (and a fan-out's children): REVOKED at once, or asked to stop if running; empty if it was final."""
    with session() as transaction:
        cancelled = ledger.cancel(transaction, job_id, running=running)
    settled(cancelled)
    return cancelled


def settled(jobs: Iterable[Lost]) -> None:
    """Jobs that a transition ended (those of them that are final): do what waits for them."""
    ended = [each for each in jobs if each.state in FINAL]
    for each in ended:
        if each.has_canvas:
            follow_up(each.id)
    for group_id in {each.group_id for each in ended if each.group_id}:  # once, though a batch may end many of a group
        open_barrier(group_id)


def after(job_id: UUID, group_id: UUID | None, has_canvas: bool) -> None:
    """One final job: submit what its canvas wants, open its group's barrier if it was the last."""
    if has_canvas:
        follow_up(job_id)
    if group_id is not None:
        open_barrier(group_id)


def follow_up(job_id: UUID) -> None:
    """Submit the callbacks and the next link of the chain, or fail the chain's rest; once."""
    with session() as transaction, within(transaction):
        ended = barrier.follow(transaction, job_id)
        if ended is None:
            return
        _know_every_job()
        canvas = ended["canvas"]
        lineage = {"parent_id": str(job_id), "root_id": str(ended["root_id"] or job_id)}
        if ended["state"] == "SUCCESS":
            for link in _many(canvas.get("link")):
                _apply(link, (ended["result"],), lineage)
            if chain := canvas.get("chain"):
                _apply(chain[-1], (ended["result"],), {**lineage, "chain": chain[:-1]})
        else:
            for link in _many(canvas.get("link_error")):
                _apply(link, (str(job_id),), lineage)
            reason = f"not run: {ended['kind']}[{job_id}] before it in the chain ended {ended['state']}"
            for signature in canvas.get("chain") or ():
                _record_failure(signature, ChainError, f"{reason}: {_message(ended['error'])}", lineage)


def open_barrier(group_id: UUID) -> None:
    """If all of the group is final: resume the parent that fanned it out, or submit the chord's body; once."""
    with session() as transaction, within(transaction):
        released = barrier.release(transaction, group_id)
        if released is None or released[1] is None:
            return
        _know_every_job()
        parts = barrier.group(transaction, group_id)
        failed = next((part for part in parts if part["state"] != "SUCCESS"), None)
        if failed is None:
            _apply(released[1], ([part["result"] for part in parts],), {})
        else:
            message = f"dependency {failed['id']} ended {failed['state']}: {_message(failed['error'])}"
            _record_failure(released[1], ChordError, message, {})


@cache
def _know_every_job() -> None:
    """A relay or a client goes on with jobs that it never imported itself."""
    app.loader.import_default_modules()


def _apply(encoded: dict[str, Any], args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Apply a signature; one that is refused is recorded as a failed job, so that whoever waits for it learns why."""
    signature = maybe_signature(encoded, app=app)
    try:
        with _savepoint():
            signature.apply_async(args, **options)
    except (GristmillError, TypeError, ValueError, DataError, IntegrityError) as error:
        log.warning("canvas_refused", task=signature.get("task"), reason=str(error))
        _record_failure(encoded, type(error), str(error), options)


def _record_failure(encoded: dict[str, Any], kind: type[Exception], message: str, options: dict[str, Any]) -> None:
    """A job that can never run, under the id that its caller waits for; then the rest of its own canvas fails too."""
    signature: Signature = maybe_signature(encoded, app=app)
    error = {"type": kind.__name__, "module": kind.__module__, "message": message, "traceback": None}
    tasks = getattr(signature, "tasks", None)
    for each in [signature] if tasks is None else list(getattr(tasks, "tasks", tasks)):
        if (body := each.get("kwargs", {}).get("body")) is not None and each.get("subtask_type") == "chord":
            _record_failure(body, kind, message, options)
            continue
        task_id = each.options.get("task_id")
        if task_id is None:
            continue
        task = app.tasks.get(each.task)
        queue = task.queue_name if isinstance(task, Job) else app.conf.task_default_queue
        canvas = {name: each.options[name] for name in ("chain", "link", "link_error") if each.options.get(name)}
        failed = NewJob(
            id=UUID(str(task_id)), kind=each.task, queue=queue, priority=0, params={}, state="FAILURE",
            error=error, canvas=canvas or None, group_id=_uuid(each.options.get("group_id")),
            group_index=each.options.get("group_index"), root_id=_uuid(options.get("root_id")),
            parent_id=_uuid(options.get("parent_id")),
        )  # fmt: skip
        try:
            with _savepoint():
                submit([failed])
        except DuplicateId:
            log.warning("canvas_id_taken", job_id=str(failed.id), task=each.task)


def _savepoint() -> SessionTransaction:
    """What is recorded before a refusal is undone, what led there is not."""
    transaction = ambient()
    assert transaction is not None
    return transaction.begin_nested()


def _many(links: Any) -> list[Any]:
    if not links:
        return []
    return list(links) if isinstance(links, list | tuple) else [links]


def _message(error: dict[str, Any] | None) -> str:
    return f"{error['type']}: {error['message']}" if error else "cancelled"


def _uuid(value: Any) -> UUID | None:
    return None if value is None else UUID(str(value))
