"""`/jobs/{id}`: all of one job, followed while it lives; cancelled and submitted again by a button."""

from typing import Annotated, Any

from fastapi import Header, Query, Request, Response
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, StreamingResponse

from broker.settings import settings
from broker.words import attempt_s, took_s, worked_s
from db import read, vitals
from db.artifact import Artifact, Model
from db.edit import EditRun
from db.engine import snapshot
from db.read import JobDetail, Pulse
from db.settings import redact
from db.state import FINAL, STARTED
from db.token import ADMIN, SUBMIT
from web import views
from web.catalogue import kinds
from web.pages import values
from web.pages.entry import Reader, Submitter
from web.pages.frame import HEADERS, page, pages
from web.routes import events, jobs

router = pages()

_CHILDREN = 10  # shown here; the list of jobs has them all
_MADE = 8  # artifacts that are shown at once: a run of an image editor leaves one for each sixteen pairs
_TEXT_CHARACTERS = 50_000  # of parameters and results
_VALUE_CHARACTERS = 500  # of one of them
_SOON = 0.02  # of the work must be done before it says when the rest will be


@router.get("/jobs/{job}")
def show_job(request: Request, who: Reader, job: str, again: Annotated[str, Query(max_length=10)] = "") -> Response:
    """One job. again: it was there when a form asked for it."""
    # In one that sees more with each statement, a job that ends meanwhile has its end in the history and not in its
    # state; the page then waited for ever for the transition that it had.
    with snapshot() as opened:
        found = read.show(opened, job)
        pulse = read.pulse(opened, found.id)
        silence = vitals.silence(opened, found.id, settings().lease_seconds)
        children = read.list_jobs(opened, parent=found.id, limit=_CHILDREN) if found.children else []
        newest = (
            select(Artifact).where(Artifact.job_id == found.id).order_by(Artifact.created_at.desc(), Artifact.digest)
        )
        artifacts = opened.scalars(newest).all()
        models = opened.scalars(select(Model).where(Model.job_id == found.id)).all()
        runs = opened.execute(select(EditRun.id, EditRun.name).where(EditRun.jobs.contains([str(found.id)]))).all()
        made = [{"digest": each.digest, "kind": each.kind, "size": each.size_bytes} for each in artifacts]
        versions = [{"name": each.name, "version": each.version, "current": each.is_current} for each in models]
    live, declared, attempts = found.state not in FINAL, kinds().get(found.kind), views.attempts(found.history)
    return page(
        request, "job.html", job=found, live=live, pulse=pulse, left_s=None if silence else _left(found, pulse),
        silence=silence, elapsed_s=took_s(found), attempt_s=attempt_s(found), worked_s=worked_s(found),
        attempts=attempts, attempt=max(found.attempt, attempts[-1].number if attempts else 0),
        changed=values.changed(found.params, declared.params_model if declared else None),
        scalars=values.scalars(found.result), error=_error(found, traceback=who.may(ADMIN)), children=children,
        artifacts=made, models=versions, runs=runs, may=who.may(SUBMIT), limit=_TEXT_CHARACTERS,
        value_limit=_VALUE_CHARACTERS, again_s=3 if live else None, running=found.state == STARTED, again=again,
        declared=declared is not None, made_shown=_MADE,
    )  # fmt: skip


@router.get("/jobs/{job}/events", response_class=StreamingResponse)
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
    elapsed, share = attempt_s(job), pulse.done / pulse.total if pulse.total else 0
    if pulse.left_s is not None or job.state != STARTED or elapsed is None:
        return pulse.left_s
    return elapsed * (1 - share) / share if _SOON < share < 1 else None


def _error(job: JobDetail, *, traceback: bool) -> dict[str, Any] | None:
    """Without secrets; its traceback is for administrators, as in the API."""
    if not job.error:
        return None
    shown = {name: redact(str(job.error.get(name) or "")).strip() for name in ("type", "message", "traceback")}
    return shown | {"traceback": shown["traceback"] if traceback else "", "hidden": not traceback}
