"""Submitting over HTTP: what a request holds, and that the same request twice is one."""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Header
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool

from broker.errors import UnknownJob
from broker.limits import TIME_LIMIT_S
from broker.submit import submit, unavailable, within
from db import idempotency
from db.engine import session
from db.ledger import NewJob
from web.body import without_nul
from web.catalogue import job
from web.gather import Gather
from web.problems import UNKNOWN_KIND, Problem
from web.views import Priority

MOST = 1000  # jobs of one request
_LATEST_S = 10 * 365 * 86400.0
_KEY_CHARACTERS = 200

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Any text that is new for each request: one that comes again with it, as after a lost answer, "
        f"submits nothing and is answered with the same jobs. Remembered for {idempotency.DAYS} days.",
        min_length=1,
        max_length=_KEY_CHARACTERS,
        pattern="^[!-~]+$",
    ),
]


class Submission(BaseModel):
    """A job to be submitted."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(min_length=1, max_length=200)
    params: dict[str, Any] = Field(default_factory=dict)
    priority: Priority | None = None
    queue: str | None = Field(default=None, max_length=100, description="Another than the kind's.")
    delay_s: float | None = Field(default=None, ge=0, le=_LATEST_S, description="Run it no sooner.")
    expires_s: float | None = Field(default=None, gt=0, le=_LATEST_S, description="Revoke it if not started by then.")
    owner: str | None = Field(default=None, max_length=200, description="Owners share a queue fairly.")
    max_attempts: int | None = Field(default=None, ge=1, le=1000)
    time_limit_s: float | None = Field(default=None, gt=0, le=TIME_LIMIT_S)

    _storable = field_validator("owner")(without_nul)


class Submissions(BaseModel):
    """Jobs to be submitted together: all of them or none."""

    model_config = ConfigDict(extra="forbid")

    jobs: list[Submission] = Field(min_length=1, max_length=MOST)


class Submitted(BaseModel):
    """already_live: the same work was live, and the id is that job's; or the request came before."""

    id: UUID
    kind: str
    already_live: bool


def draft(asked: Submission) -> NewJob:
    """What it would record, checked. Raises InvalidParams, and Problem for a kind that is not declared."""
    try:
        found = job(asked.kind)
    except UnknownJob as error:
        raise Problem(422, str(error), UNKNOWN_KIND) from None
    options: dict[str, Any] = {
        "priority": asked.priority, "queue": asked.queue, "countdown": asked.delay_s, "expires": asked.expires_s,
        "owner": asked.owner, "max_attempts": asked.max_attempts, "time_limit": asked.time_limit_s,
    }  # fmt: skip
    return found.draft(asked.params, **options)


async def one(gather: Gather, asked: Submission, caller: str, key: str | None) -> Submitted:
    """Submit one; together with others that come at the same time, unless it has a key."""
    if key is not None:
        return (await run_in_threadpool(many, [asked], caller, key))[0]
    return _submitted(*await gather.submit(lambda: draft(asked)))


def many(asked: Sequence[Submission], caller: str, key: str | None) -> list[Submitted]:
    """Submit all of them or none. Raises OtherRequest for a key that was used for something else."""
    try:
        with session() as opened, within(opened):
            if key is not None and (before := idempotency.take(opened, caller, key, _fingerprint(asked))) is not None:
                return [
                    Submitted(id=job_id, kind=each.kind, already_live=True)
                    for each, job_id in zip(asked, before, strict=True)
                ]
            drafts = [draft(each) for each in asked]
            ids = submit(drafts)
            if key is not None:
                idempotency.keep(opened, caller, key, ids)
        return [_submitted(made, job_id) for made, job_id in zip(drafts, ids, strict=True)]
    except OperationalError as error:
        raise unavailable(error) from error


def _submitted(made: NewJob, job_id: UUID) -> Submitted:
    return Submitted(id=job_id, kind=made.kind, already_live=job_id != made.id)


def _fingerprint(asked: Sequence[Submission]) -> bytes:
    values = [each.model_dump(mode="json", exclude_unset=True) for each in asked]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode("utf-8", "surrogatepass")).digest()
