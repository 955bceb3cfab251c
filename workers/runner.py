"""Runs one claimed job in a pool process: claim, body, outcome. The only place that catches Exception.

Importing this module plugs it into the task class; celeryconfig's `imports` does so in every worker.
"""

import json
import traceback
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from celery.exceptions import Ignore, Retry
from celery.signals import task_postrun

from broker import canvas, dropped, tracing
from broker.backend import describe
from broker.context import Context
from broker.errors import Cancelled, HandedOver, InvalidParams, JobError, LeaseLost, Suspended
from broker.identity import worker_name
from broker.job import Job, set_runner
from broker.log import about
from broker.params import parse
from broker.settings import settings
from broker.submit import send_lanes
from db import ledger
from db.dropped import recorded
from db.ledger import Claimed
from workers import batch
from workers.context import RunContext
from workers.outage import or_the_relay, persist
from workers.result import check_result

log = structlog.get_logger()


def run(task: Job) -> Any:
    """Run the job that the current message names; returns its result for Celery's events and log.

    Raises Ignore when there is nothing to do for this message, Retry or the body's own error when the attempt failed.
    """
    job_id, worker = UUID(task.request.id), worker_name(task.request.hostname)
    claimed = persist(lambda on: ledger.claim(on, job_id, worker, settings().lease_seconds, task.name))
    if claimed is None:
        if not persist(lambda on: recorded(on, [(job_id, task.name)])):
            _drop(task)
        raise Ignore(f"{job_id} is not to be run now: another delivery took it, or it is final")
    mates, more = batch.mates(task, claimed, worker)
    # Their places in Redis are free now for the next of their lanes; of a batch that took all there is none.
    send_lanes({each.lane for each in (claimed, *mates) if each.lane and (more or not each.lane.shared)})
    about(job_id=str(job_id), kind=task.name, attempt=claimed.attempt)
    with tracing.processing(claimed, mates, worker):
        return _run_batch(task, claimed, mates) if mates else _run(task, claimed)


def _drop(task: Job) -> None:
    """The message came from nobody of ours: its like is not to pass in silence."""
    request = task.request
    said = json.dumps({"task": task.name, "id": request.id, "kwargsrepr": request.kwargsrepr, "origin": request.origin})
    dropped.drop(request.delivery_info["routing_key"], "no such job is recorded", said.encode())


def _run(task: Job, claimed: Claimed) -> Any:
    ctx = RunContext(claimed)
    try:
        result = _call(task, ctx, parse(task.name, task.params_model, (), claimed.params))
        if not ctx.finished:
            check_result(task.name, result)
    except Suspended:
        raise Ignore("waits for its children") from None
    except HandedOver:
        persist(lambda on: ledger.hand_over(on, claimed.id, claimed.attempt))
        log.info("job_handed_over", reason="the worker is being stopped: the job goes on from its checkpoint")
        raise Ignore("handed over") from None
    except LeaseLost:
        log.warning("lease_lost", reason="another attempt holds the job: what this one did is dropped")
        raise Ignore("lease lost") from None
    except Cancelled:
        revoked = persist(lambda on: ledger.revoke(on, claimed.id, claimed.attempt))
        or_the_relay(lambda: canvas.settled(revoked))
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
    if not ctx.finished and not persist(lambda on: ledger.succeed(on, claimed.id, claimed.attempt, result)):
        log.warning("result_refused", reason="the lease was lost before the end")
        raise Ignore("lease lost")
    _follow(claimed)
    ctx.clear_checkpoints()
    return result


def _call(task: Job, ctx: Context, params: Any) -> Any:
    """What the body returns for one job."""
    if task.batch_size is None:
        with tracing.body(task.name):
            return task.body(ctx, params)
    (answer,) = batch.answers(task, ctx, [params])
    if isinstance(answer, Exception):
        raise answer
    return answer


def _run_batch(task: Job, leader: Claimed, mates: Sequence[Claimed]) -> Any:
    """Tells Celery, which knows of the leader alone, how that one ended."""
    with structlog.contextvars.bound_contextvars(batch=len(mates) + 1):
        ended = batch.run(task, leader, mates)
    match ended.state:
        case "SUCCESS":
            return ended.result
        case "REVOKED":
            _say_revoked(task)
            raise Ignore("cancelled")
        case "RETRY":
            raise Retry(message=str(ended.error)) from ended.error
        case "FAILURE":
            raise ended.error or RuntimeError("failed")
    raise Ignore("no longer held: its lease was lost, it was cancelled by force, or it goes on elsewhere")


def _fail(task: Job, claimed: Claimed, error: Exception) -> None:
    """Record the attempt's error. Raises Retry when the ledger will try again, so that Celery's events say so."""
    permanent = isinstance(error, JobError | InvalidParams)
    described = describe(error)
    state = persist(lambda on: ledger.fail(on, claimed.id, claimed.attempt, described, permanent=permanent))
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
        or_the_relay(lambda: canvas.after(claimed.id, claimed.group_id, claimed.has_canvas))


@task_postrun.connect
def _ended(**_: Any) -> None:
    """Celery has said its last about the job."""
    about()


set_runner(run)
