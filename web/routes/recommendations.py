"""What a user is recommended, with the cache's verdict: fresh, computed anew, being computed, or popular."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response, Security
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from db import read
from db.engine import session
from db.state import SUCCESS
from db.token import READ
from jobs.recommend import cache, serve
from jobs.recommend.cache import Cached
from web.problems import Problem, documented
from web.settings import API
from web.tokens import caller

router = APIRouter(prefix=API, tags=["recommendations"], dependencies=[Security(caller, scopes=[READ])])


class Item(BaseModel):
    """An item; if that was asked for, why: what it shares with the user's profile; like: the nearest items of the
    history."""

    item: str
    title: str | None
    score: float
    why: list[dict[str, Any]] | None = None
    like: list[dict[str, Any]] | None = None


class Recommendations(BaseModel):
    """The list, best first. `queued`: there is none yet, the job computes it: ask again, or wait for the job.
    `popular`: nothing is known of the user, or no model is in use (`reason`): what is popular now, from no cache."""

    username: str
    verdict: Literal["fresh", "recomputed", "queued", "popular"]
    job: UUID | None = None
    basis: Literal["model", "popular"] | None = Field(default=None, description="popular: nothing is known of him.")
    reason: str | None = None
    model_version: int | None = None
    cached_at: datetime | None = Field(default=None, description="null: it is from no cache.")
    items: list[Item] = []


_QUEUED = {"model": Recommendations, "description": "It is being computed; `job` is by whom."}


@router.get("/recommendations/{username}", responses={**documented(409, 422), 202: _QUEUED})
async def recommend(
    request: Request,
    response: Response,
    username: Annotated[str, Path(max_length=200)],
    top_k: Annotated[int, Query(ge=1, le=1000)] = 10,
    wait: Annotated[float, Query(ge=0, le=60, description="For a list that must be computed, seconds at most.")] = 5,
    why: bool = False,
) -> Recommendations:
    """A user's recommendations. A list that is not fresh is computed by a worker, and waited for."""
    if found := await run_in_threadpool(serve.at_once, username, top_k):
        return await run_in_threadpool(_shown, found, "fresh", why)
    job = UUID((await run_in_threadpool(serve.compute, username, top_k, force=False)).id)
    ended = await request.app.state.feed.final(job, wait)
    if ended is not None and ended.state != SUCCESS:
        raise Problem(409, f"job {job} ended {ended.state}: {(ended.error or {}).get('message', 'cancelled')}")
    computed = ended and await run_in_threadpool(cache.read, username, top_k, count=False)
    if not computed:  # also when the history or the model changed meanwhile
        response.status_code = 202
        return Recommendations(username=username, verdict="queued", job=job)
    return await run_in_threadpool(_shown, computed, "recomputed", why)


def _shown(found: Cached, verdict: Literal["fresh", "recomputed"], why: bool) -> Recommendations:
    ids = [item for item, _ in found.items]
    with session() as opened:
        titles = read.titles(opened, ids)
    told = serve.reasons(found.username, ids) if why else {}
    reasons = {item: each.json() for item, each in told.items()}
    nothing: dict[str, Any] = {"shared": [], "like": []}
    items = [
        Item(
            item=item,
            title=titles.get(item),
            score=score,
            why=reasons.get(item, nothing)["shared"] if why else None,
            like=reasons.get(item, nothing)["like"] if why else None,
        )
        for item, score in found.items
    ]
    popular = found.basis == cache.POPULAR
    return Recommendations(
        username=found.username, verdict=cache.POPULAR if popular else verdict, basis=found.basis,
        reason=found.reason or None, model_version=found.model_version,
        cached_at=None if popular else found.cached_at, items=items,
    )  # fmt: skip
