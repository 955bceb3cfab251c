"""Runs recorded jobs in this process as a worker would: claim, real context, body, outcome, what waits for it."""

from typing import Any

from sqlalchemy import func, select

from broker import canvas
from broker.backend import describe
from broker.errors import InvalidParams, JobError, Suspended
from broker.job import Job, find
from broker.params import parse
from db import ledger
from db.engine import autocommit, session
from db.job import Job as Row
from db.ledger import Claimed
from workers.context import RunContext


def run(job: Job, **params: Any) -> Any:
    """Submit, run everything that is due, and return the job's result; its error is raised as JobError."""
    submitted = job.submit(**params)
    drain()
    with session() as opened:
        row = opened.get_one(Row, submitted.id)
        state, result, error = row.state, row.result, row.error
    if state != "SUCCESS":
        raise JobError((error or {}).get("message", state))
    return result


def drain() -> None:
    """Run what is due until nothing is."""
    due = select(Row.id, Row.kind).where(Row.state.in_(("PENDING", "RETRY")), Row.run_at <= func.now())
    while True:
        with session() as opened:
            found = opened.execute(due.order_by(Row.created_at)).first()
        if found is None:
            return
        with autocommit() as connection:
            claimed = ledger.claim(connection, found.id, "test", 60)
        if claimed is None:
            raise AssertionError(f"{found.id} is due and cannot be claimed")
        once(claimed, find(found.kind))


def once(claimed: Claimed, job: Job) -> None:
    """One attempt."""
    ctx = RunContext(claimed)
    try:
        params = parse(job.name, job.params_model, (), claimed.params)
        result = job.body(ctx, params) if job.batch_size is None else _alone(job.body(ctx, [params]))
    except Suspended:
        return
    except Exception as error:
        permanent = isinstance(error, JobError | InvalidParams)
        with autocommit() as connection:
            ledger.fail(connection, claimed.id, claimed.attempt, describe(error), permanent=permanent)
        if not permanent:
            raise
    else:
        with autocommit() as connection:
            ledger.succeed(connection, claimed.id, claimed.attempt, result)
        ctx.clear_checkpoints()
    if claimed.group_id is not None or claimed.has_canvas:
        canvas.after(claimed.id, claimed.group_id, claimed.has_canvas)


def _alone(results: list[Any]) -> Any:
    """The outcome of a batch of one."""
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result


def claim(job: Job, **params: Any) -> Claimed:
    """Submit and claim, to run the attempt by hand."""
    submitted = job.submit(**params)
    with autocommit() as connection:
        claimed = ledger.claim(connection, submitted.id, "test", 60)
    if claimed is None:
        raise AssertionError(f"{submitted.id} cannot be claimed")
    return claimed
