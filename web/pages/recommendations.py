"""`/recommendations`: a user is found by name; the list with its reasons, what the cache says of it, and the profile.

To look submits nothing and counts as no read of the cache: a page that is opened, reloaded or fetched ahead by a
browser neither makes work nor improves the hit rate. The button does submit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from db import catalogue, read, recommend_user
from db.catalogue import Item
from db.engine import session
from db.read import JobDetail, NotFound
from db.recommend import FRESH_DAYS, MODEL, UserProfile
from db.recommend_user import Stored
from db.state import FINAL, SUCCESS
from db.token import SUBMIT
from jobs.recommend import serve
from jobs.recommend.cache import Cached
from jobs.recommend.features import facts
from jobs.recommend.tasks import pretrain_user
from jobs.recommend.why import LOOKED_AT, Reasons, sentence
from web.pages.entry import Reader, Submitter
from web.pages.frame import HEADERS, page, pages
from web.pages.profile import charts
from web.pages.words import reason

router = pages()

LENGTHS = (10, 20, 50, 100)
_NAMES = 24  # that are suggested
_LATEST = 8  # items of the history that are named

Username = Annotated[str, Path(max_length=200)]


@dataclass(frozen=True, slots=True)
class Pick:
    """A line of the list; why: what it shares with the profile; like: titles of the history."""

    title: str
    year: int | None
    genres: tuple[str, ...]
    score: float
    why: str
    like: list[str]


@router.get("/recommendations")
def find_user(
    request: Request, who: Reader, user: Annotated[str, Query(max_length=200)] = "", suggest: bool = False
) -> Response:
    """A box for a name; who is known by just that name is shown, else those whose names begin so.

    suggest: those in any case, as the box asks while one is typing.
    """
    with session() as opened:
        if user and not suggest and opened.get(UserProfile, user) is not None:
            return RedirectResponse(address(user), 303, HEADERS)
        names = recommend_user.names(opened, user, _NAMES)
    return page(request, "recommendations.html", asked=user, names=names, address=address, full=len(names) == _NAMES)


@router.get("/recommendations/{username:path}")
def show_user(
    request: Request, who: Reader, username: Username, top: Annotated[int, Query(ge=1, le=serve.KEPT)] = LENGTHS[1],
    job: UUID | None = None,
) -> Response:  # fmt: skip
    """A user's list. job: that computes it, or did, as after the button."""
    if not username:
        return RedirectResponse("/recommendations", 303, HEADERS)
    found = serve.at_once(username, top, count=False)
    asked = job or serve.computing(username)
    with session() as opened:
        user = opened.get(UserProfile, username)
        making = _job(opened, asked, username)
        stored = recommend_user.stored(opened, username) if found is None else None
        near = recommend_user.names(opened, username[:1], _NAMES) if user is None else []
        history = user.item_ids[-LOOKED_AT:] if user else []
        items = catalogue.items(opened, [*history, *(item for item, _ in (found.items if found else ()))])
        reasons = Reasons(user, items) if user else None
    charted = charts(reasons.profile, user.item_count) if user and reasons else []
    live = making is not None and making.state not in FINAL
    return page(
        request, "recommended.html", 200 if user else 404, username=username, user=user, found=found, job=making,
        live=live, verdict=verdict(found, making, live=live), picks=_picks(found, reasons, items),
        charts=charted, stale=_stale(stored, top), address=address, top=top,
        lengths=LENGTHS, may=who.may(SUBMIT), model=MODEL, again_s=3 if live else None, near=near,
        latest=[_title(item, items) for item in reversed(history[-_LATEST:])], error=_error(making),
    )  # fmt: skip


@router.post("/recommendations/{username:path}")
async def compute(who: Submitter, username: Username) -> Response:
    """Compute it again, fresh or not, and show how that goes."""
    made = await run_in_threadpool(serve.compute, username, serve.KEPT, force=True)
    return RedirectResponse(f"{address(username)}?job={made.id}", 303, HEADERS)


def address(username: str) -> str:
    """Of the page of a user, whatever the name has in it."""
    return f"/recommendations/{quote(username, safe='')}"


def verdict(found: Cached | None, job: JobDetail | None, *, live: bool) -> str:
    """fresh, recomputed, queued, popular or missing: as the API says it, as far as it does."""
    if live:
        return "queued"
    if found is None:
        return "missing"
    if found.basis == "popular":
        return "popular"
    return "recomputed" if job and job.state == SUCCESS and _since(job, found.cached_at) else "fresh"


def _since(job: JobDetail, cached_at: datetime) -> bool:
    """Whether a list of this time is the job's; its row is written before the job's end, by another clock."""
    return job.started_at is not None and cached_at >= job.started_at - timedelta(seconds=1)


def _job(opened: Any, job_id: UUID | None, username: str) -> JobDetail | None:
    """If it is one that computes this user's list."""
    try:
        found = read.show(opened, str(job_id)) if job_id else None
    except NotFound:
        return None
    mine = found is not None and found.kind == pretrain_user.name and found.params.get("username") == username
    return found if mine else None


def _picks(found: Cached | None, reasons: Reasons | None, items: Mapping[str, Item]) -> list[Pick]:
    """The list's lines, in order."""
    picks = []
    for item, score in found.items if found else ():
        fact = facts(items[item].features if item in items else {})
        title = _title(item, items)
        why = reasons.of(item) if reasons else None
        said, like = (sentence(why.shared), [each.title for each, _ in why.like]) if why else ("", [])
        year = None if fact.year is None or str(fact.year) in title else fact.year
        picks.append(Pick(title, year, fact.genres, score, said, like))
    return picks


def _title(item: str, items: Mapping[str, Item]) -> str:
    return items[item].title if item in items else item


def _stale(stored: Stored | None, top: int) -> str:
    """Why there is no list that could be served."""
    if stored is None:
        return "No list has been computed for this user yet."
    if stored.model_version != stored.version_in_use:
        return f"The last list is of version {stored.model_version} of the model; {stored.version_in_use} is in use."
    if not stored.same_history:
        return "The history has changed since the last list was computed."
    if stored.top_k < top:
        return f"The last list has {stored.top_k} items only."
    return f"The last list is older than {FRESH_DAYS:g} days."


def _error(job: JobDetail | None) -> str:
    return "" if job is None or job.state not in FINAL or job.state == SUCCESS else reason(job)
