"""`/jobs/{id}`: all of one job, followed while it lives; cancelled and submitted again by a button."""

from typing import Annotated, Any

from fastapi import Header, Request, Response
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from broker.words import took_s
from db import read
from db.artifact import Artifact, Model
from db.engine import session
from db.read import JobDetail, Pulse
from db.settings import redact
from db.state import FINAL, STARTED
from db.token import ADMIN, SUBMIT
from web import views
from web.pages.entry import Reader, Submitter
from web.pages.frame import HEADERS, page, pages
from web.routes import events, jobs

router = pages()

_CHILDREN = 10  # shown here; the list of jobs has them all
_TEXT_CHARACTERS = 50_000  # of parameters and results
_SOON = 0.02  # of the work must be done before it says when the rest will be


@router.get("/jobs/{job}")
def show_job(request: Request, who: Reader, job: str) -> Response:
    """One job."""
    with session() as opened:
        found = read.show(opened, job)
        pulse = read.pulse(opened, found.id)
        children = read.list_jobs(opened, parent=found.id, limit=_CHILDREN) if found.children else []
        artifacts = opened.scalars(select(Artifact).where(Artifact.job_id == found.id)).all()
        models = opened.scalars(select(Model).where(Model.job_id == found.id)).all()
        made = [{"digest": each.digest, "kind": each.kind, "size": each.size_bytes} for each in artifacts]
        versions = [{"name": each.name, "version": each.version, "current": each.is_current} for each in models]
    live = found.state not in FINAL
    return page(
        request, "job.html", job=found, live=live, pulse=pulse, left_s=_left(found, pulse), elapsed_s=took_s(found),
        attempts=views.attempts(found.history), error=_error(found, traceback=who.may(ADMIN)), children=children,
        artifacts=made, models=versions, may=who.may(SUBMIT), limit=_TEXT_CHARACTERS, again_s=5 if live else None,
        running=found.state == STARTED,
    )  # fmt: skip


@router.get("/jobs/{job}/events")
async def stream_events(
    request: Request, who: Reader, job: str, last_event_id: Annotated[str | None, Header(max_length=100)] = None
) -> Response:
    """The API's stream, for a page."""
    return await events.stream_events(request, job, last_event_id)


@router.post("/jobs/{job}/cancel")
async def cancel_job(who: Submitter, job: str) -> Response:
    """Cancel it, and show what became of it."""
    cancelled = await run_in_threadpool(jobs.cancel_job, who, job)
    return RedirectResponse(f"/jobs/{cancelled.id}", 303, HEADERS)


@router.post("/jobs/{job}/retry")
async def retry_job(request: Request, who: Submitter, job: str) -> Response:
    """Submit it again, and show the new one."""
    made = await jobs.retry_job(request, Response(), who, job)
    return RedirectResponse(f"/jobs/{made.id}", 303, HEADERS)


def _left(job: JobDetail, pulse: Pulse) -> float | None:
    """How long it takes if it goes on as it has gone."""
    elapsed, share = took_s(job), pulse.done / pulse.total if pulse.total else 0
    if pulse.left_s is not None or job.state != STARTED or elapsed is None:
        return pulse.left_s
    return elapsed * (1 - share) / share if _SOON < share < 1 else None


def _error(job: JobDetail, *, traceback: bool) -> dict[str, Any] | None:
    """Without secrets; its traceback is for administrators, as in the API."""
    if not job.error:
        return None
    shown = {name: redact(str(job.error.get(name) or "")).strip() for name in ("type", "message", "traceback")}
    return shown | {"traceback": shown["traceback"] if traceback else "", "hidden": not traceback}
