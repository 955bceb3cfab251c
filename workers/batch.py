"""Runs a batch: one call of a kind's body for jobs that were claimed together, each of which then ends on its own."""

import contextlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import structlog

from broker import canvas, tracing
from broker.backend import describe
from broker.context import Context
from broker.errors import Interrupted, InvalidParams, JobError, LeaseLost
from broker.job import Job
from broker.params import parse
from broker.settings import settings
from db import batch
from db.batch import Failure
from db.ledger import Claimed
from workers.context import RunContext
from workers.outage import or_the_relay, persist
from workers.result import check_result

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ended:
    """How the job that led a batch ended; no state: its lease was lost, or it was cancelled by force."""

    state: str | None
    result: Any = None
    error: Exception | None = None


class BatchContext(RunContext):
    """The leader's, of a batch of several (see broker.context.Context): what befalls it ends none of the others."""

    def progress(self, done: int, total: int, *, stage: str = "", message: str = "") -> None:
        """See Context."""
        with contextlib.suppress(LeaseLost):
            super().progress(done, total, stage=stage, message=message)

    def note(self, **facts: Any) -> None:
        """See Context."""
        with contextlib.suppress(LeaseLost):
            super().note(**facts)

    def finish(self, result: Any) -> NoReturn:
        """See Context."""
        self._refuse("finish")

    def fan_out(self, *_: Any, **__: Any) -> NoReturn:
        """See Context."""
        self._refuse("fan_out")

    def save_checkpoint(self, folder: Path) -> NoReturn:
        """See Context."""
        self._refuse("save_checkpoint")

    def load_checkpoint(self) -> NoReturn:
        """See Context."""
        self._refuse("load_checkpoint")

    def _refuse(self, name: str) -> NoReturn:
        raise JobError(
            f"{self.kind} calls {name}() in a batch, which has no course of its own: declare it without batch="
        )

    def _heed(self, answer: bool | None) -> None:
        if answer is None:
            raise self._lost()


def mates(task: Job, leader: Claimed, worker: str) -> tuple[list[Claimed], bool]:
    """Further jobs to run with this one, claimed; and whether more may wait that could run with it."""
    if task.batch_size is None or not settings().batching or not leader.may_join:
        return [], True
    most = task.batch_size - 1
    joined = persist(lambda on: batch.join(on, leader, worker, settings().lease_seconds, most))
    return joined, len(joined) == most


def answers(task: Job, ctx: Context, params: Sequence[Any]) -> list[Any]:
    """What the body returns for each of these, in their order; an exception stands for a job that failed."""
    with tracing.body(task.name):
        results = task.body(ctx, list(params))
    if not isinstance(results, list | tuple) or len(results) != len(params):
        got = f"{len(results)} results" if isinstance(results, list | tuple) else type(results).__name__
        raise JobError(
            f"{task.name} returned {got} for {len(params)} jobs: return a list with the result of each, in their order"
        )
    return list(results)


def run(task: Job, leader: Claimed, others: Sequence[Claimed]) -> Ended:
    """One call of the body for all of them; afterwards each is settled, by as many statements as there are outcomes.

    An error of the whole body may be any one's fault: each is tried again, alone, even after a JobError.
    """
    jobs, params, errors = _parsed(task, [leader, *others])
    results: dict[UUID, Any] = {}
    whole: Exception | None = None
    try:
        for job, answer in zip(jobs, answers(task, BatchContext(leader), params) if jobs else (), strict=True):
            if isinstance(answer, Exception):
                errors[job.id] = answer
                continue
            try:
                check_result(task.name, answer)
                results[job.id] = answer
            except JobError as error:
                errors[job.id] = error
    except Interrupted as interrupted:
        log.info("batch_handed_over", reason=str(interrupted), jobs=len(jobs))
        persist(lambda on: batch.hand_over(on, jobs))
    except Exception as error:
        if isinstance(error, MemoryError):
            traceback.clear_frames(error.__traceback__)  # they hold what filled the memory, and recording it needs some
        whole, results = error, {}
        errors = dict.fromkeys((job.id for job in jobs), error) | errors
    states = _settle([leader, *others], results, errors, whole)
    return Ended(states.get(leader.id), results.get(leader.id), errors.get(leader.id))


def _parsed(task: Job, claimed: Sequence[Claimed]) -> tuple[list[Claimed], list[Any], dict[UUID, Exception]]:
    jobs: list[Claimed] = []
    params: list[Any] = []
    errors: dict[UUID, Exception] = {}
    for job in claimed:
        try:
            params.append(parse(task.name, task.params_model, (), job.params))
            jobs.append(job)
        except InvalidParams as error:  # recorded by a client of another version
            errors[job.id] = error
    return jobs, params, errors


def _settle(
    jobs: Sequence[Claimed], results: dict[UUID, Any], errors: dict[UUID, Exception], whole: Exception | None
) -> dict[UUID, str]:
    """The state of each job that was still held."""
    good = [(job, results[job.id]) for job in jobs if job.id in results]
    bad = [_failure(job, errors[job.id], whole) for job in jobs if job.id in errors]
    ended = persist(lambda on: batch.succeed(on, good)) if good else []
    ended += persist(lambda on: batch.fail(on, bad)) if bad else []
    or_the_relay(lambda: canvas.settled(ended))
    states = {each.id: each.state for each in ended}
    for failure in bad:
        tracing.failed(failure.job.id, errors[failure.job.id])
        said = {"job_id": str(failure.job.id), "attempt": failure.job.attempt}
        said |= {"error": failure.error["type"], "reason": failure.error["message"]}
        if states.get(failure.job.id) == "RETRY":
            log.warning("attempt_failed", **said)
        elif states.get(failure.job.id) == "FAILURE":
            log.error("job_failed", **said)
    return states


def _failure(job: Claimed, error: Exception, whole: Exception | None) -> Failure:
    return Failure(job, describe(error), permanent=error is not whole and isinstance(error, JobError | InvalidParams))
