"""Runs one claimed job in a pool process: claim, body, outcome. The only place that catches Exception.

Importing this module plugs it into the task class; celeryconfig's `imports` does so in every worker.
"""

import json
import traceback
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import structlog
from celery.exceptions import Ignore, Retry
from sqlalchemy.exc import OperationalError

from broker import canvas, dropped
from broker.backend import describe
from broker.context import Context
from broker.errors import Cancelled, HandedOver, InvalidParams, JobError, LeaseLost, Suspended
from broker.identity import worker_name
from broker.job import Job, set_runner
from broker.params import parse
from broker.settings import settings
from broker.submit import send_lane
from db import ledger
from db.dropped import recorded
from db.engine import autocommit
from db.ledger import Claimed, Executor
from workers.context import RunContext
from workers.outage import outlast
from workers.result import check_result

log = structlog.get_logger()
T = TypeVar("T")


def run(task: Job) -> Any:
    """Run the job that the current message names; returns its result for Celery's events and log.

    Raises Ignore when there is nothing to do for this message, Retry or the body's own error when the attempt failed.
    """
    job_id, worker = UUID(task.request.id), worker_name(task.request.hostname)
    claimed = _persist(lambda on: ledger.claim(on, job_id, worker, settings().lease_seconds, task.name))
    if claimed is None:
        if not _persist(lambda on: recorded(on, [(job_id, task.name)])):
            _drop(task)
        raise Ignore(f"{job_id} is not to be run now: another delivery took it, or it is final")
    if claimed.lane:
        send_lane(claimed.lane)  # its place in Redis is free now for the owner's next
    with structlog.contextvars.bound_contextvars(job_id=str(job_id), kind=task.name, attempt=claimed.attempt):
        return _run(task, claimed)


def _drop(task: Job) -> None:
    """The message came from nobody of ours: its like is not to pass in silence."""
    request = task.request
    said = json.dumps({"task": task.name, "id": request.id, "kwargsrepr": request.kwargsrepr, "origin": request.origin})
    dropped.drop(request.delivery_info["routing_key"], "no such job is recorded", said.encode())


def _run(task: Job, claimed: Claimed) -> Any:
    ctx = RunContext(claimed)
    try:
        params = parse(task.name, task.params_model, (), claimed.params)
        body: Callable[[Context, Any], Any] = task.body
        result = body(ctx, params)
        if not ctx.finished:
            check_result(task.name, result)
    except Suspended:
        raise Ignore("waits for its children") from None
    except HandedOver:
        _persist(lambda on: ledger.hand_over(on, claimed.id, claimed.attempt))
        log.info("job_handed_over", reason="the worker is being stopped: the job goes on from its checkpoint")
        raise Ignore("handed over") from None
    except LeaseLost:
        log.warning("lease_lost", reason="another attempt holds the job: what this one did is dropped")
        raise Ignore("lease lost") from None
    except Cancelled:
        revoked = _persist(lambda on: ledger.revoke(on, claimed.id, claimed.attempt))
        _or_the_relay(lambda: canvas.settled(revoked))
        _say_revoked(task)
        raise Ignore("cancelled") from None
    except MemoryError as error:
        traceback.clear_frames(error.__traceback__)  # they hold what filled the memory, and recording it needs some
        _fail(task, claimed, error)
        # Celery would take a MemoryError for one of the worker's parent, and end the whole worker.
        raise RuntimeError(f"out of memory: {error}") from None
    except Exception as error:
        _fail(task, claimed, error)
        raise
    if not ctx.finished and not _persist(lambda on: ledger.succeed(on, claimed.id, claimed.attempt, result)):
        log.warning("result_refused", reason="the lease was lost before the end")
        raise Ignore("lease lost")
    _follow(claimed)
    ctx.clear_checkpoints()
    return result


def _fail(task: Job, claimed: Claimed, error: Exception) -> None:
    """Record the attempt's error. Raises Retry when the ledger will try again, so that Celery's events say so."""
    permanent = isinstance(error, JobError | InvalidParams)
    described = describe(error)
    state = _persist(lambda on: ledger.fail(on, claimed.id, claimed.attempt, described, permanent=permanent))
    if state is None:
        raise Ignore("lease lost") from error
    if state == "RETRY":
        log.warning("attempt_failed", error=described["type"], reason=described["message"])
        raise Retry(message=described["message"]) from error
    if state == "REVOKED":
        _follow(claimed)
        _say_revoked(task)
        raise Ignore("failed, and was to be cancelled anyway") from error
    log.error("job_failed", error=described["type"], reason=described["message"])
    _follow(claimed)


def _say_revoked(task: Job) -> None:
    task.send_event("task-revoked", terminated=False, signum=None, expired=False)


def _follow(claimed: Claimed) -> None:
    """What waits for this job."""
    if claimed.has_canvas or claimed.group_id is not None:
        _or_the_relay(lambda: canvas.after(claimed.id, claimed.group_id, claimed.has_canvas))


def _or_the_relay(go_on: Callable[[], None]) -> None:
    """If Postgres goes away after the outcome was stored, the relay does what follows it."""
    try:
        go_on()
    except OperationalError as error:
        log.warning("follow_up_left_to_relay", reason=str(error).split("\n")[0])


def _persist(statement: Callable[[Executor], T]) -> T:
    """Run a ledger statement, waiting out an outage of Postgres: a finished result is not thrown away.

    Each statement is conditional, so one that was carried out although its answer was lost does no harm.
    """

    def step() -> T:
        with autocommit() as connection:
            return statement(connection)

    return outlast(step)


set_runner(run)
