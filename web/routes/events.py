"""A job's transitions and progress as they happen: server-sent events that survive a reconnect."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response, Security
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from db import read
from db.engine import session
from db.prefix import bounds
from db.token import READ
from web.problems import Problem, documented
from web.settings import API
from web.tokens import caller

router = APIRouter(prefix=API, tags=["jobs"], dependencies=[Security(caller, scopes=[READ])])

_EVENT = {
    "type": "object",
    "properties": {
        "event": {"enum": ["state", "progress"]},
        "id": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}
_STREAM = {
    "description": "Events `state` (with an id; the last one has `final` and the result) and `progress` (without).",
    "content": {"text/event-stream": {"schema": _EVENT}},  # in OpenAPI 3.1 a stream's schema is that of one event
}
_OVER = {"description": "The job is final, and nothing came after that event: do not connect again."}


@router.get(
    "/jobs/{job}/events",
    response_class=StreamingResponse,
    responses={**documented(404), 200: _STREAM, 204: _OVER},
)
async def stream_events(
    request: Request, job: str, last_event_id: Annotated[str | None, Header(max_length=100)] = None
) -> Response:
    """What has happened to a job, and what happens, until it is final.

    A browser's EventSource connects again by itself, and says in `Last-Event-ID` which event it saw last: it is sent
    those that came after. Ids are those of the job's history, so that any process can go on.
    """
    feed = request.app.state.feed
    if feed.listeners >= (most := request.app.state.settings.web_listeners):
        raise Problem(503, f"{most} streams are open: GRISTMILL_WEB_LISTENERS", headers={"Retry-After": "5"})
    first, last = bounds(job) or (None, None)
    job_id = first if first is not None and first == last else await run_in_threadpool(_find, job)
    after = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdecimal() else 0
    watched = await feed.open(job_id)
    if watched.final and watched.last <= after:
        feed.close(job_id)
        return Response(status_code=204)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would keep it until it is long enough
    return StreamingResponse(feed.stream(job_id, watched, after), media_type="text/event-stream", headers=headers)


def _find(job: str) -> UUID:
    with session() as opened:
        return read.find(opened, job)
