"""Jobs: submit one or many, list, look at one, wait for it, cancel, retry."""

import base64
import binascii
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, Security
from starlette.concurrency import run_in_threadpool

from broker import canvas
from broker.errors import InvalidParams
from db import read
from db.engine import session, snapshot
from db.state import FINAL, LIVE
from db.token import ADMIN, READ, SUBMIT
from web import body, submission, views
from web.body import parsed
from web.problems import Problem, documented
from web.settings import API
from web.submission import IdempotencyKey, Submission, Submissions, Submitted
from web.tokens import Caller, caller
from web.views import Attempt, JobShown, Page, State, Transition

router = APIRouter(prefix=API, tags=["jobs"])

Reader = Annotated[Caller, Security(caller, scopes=[READ])]
Submitter = Annotated[Caller, Security(caller, scopes=[SUBMIT])]
Wait = Annotated[float, Query(ge=0, le=60, description="Wait for its end, so many seconds at most.")]

_LOCATION = {"Location": {"description": "The job.", "schema": {"type": "string"}}}
_LIVE_ALREADY = {"description": "The same work is live, or the request came before: that job.", "model": Submitted}


@router.post(
    "/jobs",
    status_code=201,
    responses={**documented(415, 422), 200: _LIVE_ALREADY, 201: {"headers": _LOCATION}},
    openapi_extra={"requestBody": {"$ref": "#/components/requestBodies/Submission"}},
)
async def submit_job(
    request: Request, response: Response, who: Submitter, idempotency_key: IdempotencyKey = None
) -> Submitted:
    """Submit a job. It is recorded when this answers, and runs when a worker takes it."""
    asked = parsed(Submission, await body.read(request))
    made = await submission.one(request.app.state.gather, asked, who.name, idempotency_key)
    response.headers["Location"] = f"{API}/jobs/{made.id}"
    if made.already_live:
        response.status_code = 200
    return made


@router.post(
    "/jobs/many",
    status_code=201,
    responses=documented(415, 422),
    openapi_extra={"requestBody": {"$ref": "#/components/requestBodies/Submissions"}},
)
async def submit_jobs(request: Request, who: Submitter, idempotency_key: IdempotencyKey = None) -> list[Submitted]:
    """Submit many jobs in one statement: all of them or none. The answers are in their order."""
    asked = parsed(Submissions, await body.read(request)).jobs
    return await run_in_threadpool(submission.many, asked, who.name, idempotency_key)


@router.get("/jobs", responses=documented(422))
def list_jobs(
    who: Reader,
    state: State | None = None,
    kind: Annotated[str | None, Query(max_length=200)] = None,
    queue: Annotated[str | None, Query(max_length=100)] = None,
    owner: Annotated[str | None, Query(max_length=200)] = None,
    parent: Annotated[UUID | None, Query(description="Only the children of this job's fan-out.")] = None,
    cursor: Annotated[str | None, Query(max_length=100, description="The `next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page:
    """A page of the jobs that match, the newest first."""
    after = None if cursor is None else _place(cursor)
    with session() as opened:
        rows = read.list_jobs(
            opened, state=state, kind=kind, queue=queue, owner=owner, parent=parent, after=after, limit=limit + 1
        )
    more, rows = len(rows) > limit, rows[:limit]
    return Page(jobs=[views.summary(row) for row in rows], next=_cursor(rows[-1]) if more else None)


@router.get("/jobs/{job}", responses=documented(404, 422))
async def show_job(request: Request, who: Reader, job: str, wait: Wait = 0) -> JobShown:
    """One job. `wait`: answer once it is final, or when so many seconds are over, whichever comes first."""
    found = await run_in_threadpool(_read, job)
    if wait and found.state not in FINAL and await request.app.state.feed.final(found.id, wait):
        found = await run_in_threadpool(_read, str(found.id))
    return views.shown(found, traceback=who.may(ADMIN))


@router.get("/jobs/{job}/history", responses=documented(404))
def show_history(who: Reader, job: str) -> list[Transition]:
    """Every transition of a job, the first first."""
    return [Transition.model_validate(each, from_attributes=True) for each in _read(job).history]


@router.get("/jobs/{job}/attempts", responses=documented(404))
def show_attempts(who: Reader, job: str) -> list[Attempt]:
    """Every start of a job, where it ran, and how that ended."""
    return views.attempts(_read(job).history)


@router.post("/jobs/{job}/cancel", responses=documented(404, 409))
def cancel_job(who: Submitter, job: str) -> JobShown:
    """Cancel a job and its fan-out's children: at once if it waits, at its next progress call if it runs."""
    found = _read(job)
    if not canvas.cancel(found.id):
        raise Problem(409, f"job {found.id} is {_read(job).state} already: there is nothing to cancel")
    return views.shown(_read(str(found.id)), traceback=who.may(ADMIN))


@router.post("/jobs/{job}/retry", status_code=201, responses={**documented(404, 409, 422), 200: _LIVE_ALREADY})
async def retry_job(request: Request, response: Response, who: Submitter, job: str) -> Submitted:
    """Submit a final job's kind and parameters again, as a new job. The old one stays as it is."""
    found = await run_in_threadpool(_read, job)
    if found.state in LIVE:
        raise Problem(409, f"job {found.id} is {found.state}, and only final jobs are retried: wait or cancel it")
    again = Submission.model_construct(
        kind=found.kind, params=found.params, queue=found.queue, priority=found.priority, owner=found.owner
    )
    made = await submission.one(request.app.state.gather, again, who.name, None)
    response.headers["Location"] = f"{API}/jobs/{made.id}"
    if made.already_live:
        response.status_code = 200
    return made


def _read(job: str) -> read.JobDetail:
    with snapshot() as opened:
        return read.show(opened, job)


def _cursor(row: read.JobRow) -> str:
    return base64.urlsafe_b64encode(f"{row.created_at.isoformat()} {row.id.hex}".encode()).decode()


def _place(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, _, job_id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        return moment, UUID(job_id)
    except (ValueError, binascii.Error):
        raise InvalidParams(f"cursor={cursor!r}: give the `next` of the page before, as it is") from None
