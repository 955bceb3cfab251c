"""What a user is recommended: from the cache, else computed by a worker, stored and returned; needs no torch.

Of whom nothing is known is served what is popular lately, at once and without a job: a site has visitors of whom nobody
has heard.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from celery.exceptions import TimeoutError as NoAnswer
from celery.result import AsyncResult

from broker.errors import GristmillError
from db import catalogue, recommend_user
from db import recommend as rows
from db.engine import autocommit, session
from db.recommend import FRESH_DAYS, UserProfile
from jobs.recommend import cache
from jobs.recommend.cache import Cached, UnknownUser
from jobs.recommend.params import Policy, PretrainUser
from jobs.recommend.popular import answer
from jobs.recommend.tasks import pretrain_user
from jobs.recommend.tasks import rank as rank_job
from jobs.recommend.why import LOOKED_AT, Reasons, Why

KEPT = 100  # a list that is computed for a short answer is kept long enough for the next question
NO_MODEL = "no recommender is in use yet (train one with recommend.train): what is popular lately"

Wait = Callable[[AsyncResult], object]


def recommend(
    username: str, top_k: int = 100, *, force: bool = False, timeout_s: float = 60, fresh_days: float = FRESH_DAYS,
    wait: Wait | None = None, strict: bool = False,
) -> Cached:  # fmt: skip
    """The user's list. A miss waits for `recommend.pretrain_user`, whose error is raised as it is.

    Its `basis` is "popular" for a user of whom nothing is known, and while no recommender is in use.
    strict: UnknownUser is raised instead, and the job's own error where there is no model.
    wait: how, if not for `timeout_s` in silence. Raises TimeoutError when no worker answered in time (the job goes on).
    """
    if found := at_once(username, top_k, force=force, fresh_days=fresh_days, strict=strict):
        return found
    _finish(compute(username, top_k, force=force or fresh_days < FRESH_DAYS), username, timeout_s, wait)
    found = cache.read(username, top_k, fresh_days, count=False)  # the end of a miss, not a hit
    if found is None:
        raise GristmillError(f"the history or the model changed while {username!r} was computed: ask again")
    return replace(found, source="computed")


def at_once(
    username: str, top_k: int = 100, *, force: bool = False, fresh_days: float = FRESH_DAYS, strict: bool = False,
    count: bool = True,
) -> Cached | None:  # fmt: skip
    """What needs no worker: the fresh list, or what is popular. None: `compute` it. Raises UnknownUser if strict.

    count: as a read of the cache; a look at the dashboard is none.
    """
    try:
        if force:
            reason = _nothing_to_go_by(username)
        else:
            looked = cache.look(username, top_k, fresh_days, count=count)
            if looked.found:
                return looked.found
            reason = NO_MODEL if looked.model_version is None else None
    except UnknownUser:
        if strict:
            raise
        reason = _nobody(username)
    return cache.popular_list(username, top_k, reason) if reason and not strict else None


def compute(username: str, top_k: int, *, force: bool) -> AsyncResult:
    """Have a worker compute the list, at once; `force` also where the job takes the one that there is for fresh."""
    return pretrain_user.apply_async(kwargs=_asked(username, top_k, force), priority="interactive")


def computing(username: str, top_k: int = KEPT) -> UUID | None:
    """The live job that computes this list, or None: `compute` would submit another."""
    asked = [PretrainUser.model_validate(_asked(username, top_k, force)) for force in (False, True)]
    keys = [key for each in asked if (key := pretrain_user.new(each).key)]
    with autocommit() as connection:
        return recommend_user.live(connection, keys)


def rank(
    username: str, policy: Policy, top_k: int = 10, *, item_ids: Sequence[str] | None = None, timeout_s: float = 60,
    wait: Wait | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The user's list by this policy, with reasons, as `recommend.rank` gives it; nothing is cached.

    Without a history or a model the popular list, as far as the policy filters. Raises as `recommend` does, and
    UnknownLabel.
    """
    if item_ids is None and (reason := _nothing_to_go_by(username)):
        with session() as opened:
            return answer(opened, username, policy, top_k, reason)
    params = {**policy.model_dump(include=set(Policy.model_fields)), "username": username, "top_k": top_k}
    job = rank_job.apply_async(kwargs={**params, "item_ids": item_ids}, priority="interactive")
    result: dict[str, Any] = _finish(job, username, timeout_s, wait)
    return result


def reasons(username: str, item_ids: Sequence[str]) -> dict[str, Why]:
    """Why each of these items is for the user, from rows alone; nothing for a user without a profile."""
    with session() as opened:
        user = opened.get(UserProfile, username)
        if user is None:
            return {}
        told = Reasons(user, catalogue.items(opened, [*user.item_ids[-LOOKED_AT:], *item_ids]))
        return {item: told.of(item) for item in item_ids}


def _asked(username: str, top_k: int, force: bool) -> dict[str, Any]:
    return {"username": username, "top_k": max(top_k, KEPT), "force": force}


def _nothing_to_go_by(username: str) -> str | None:
    """Why no job could do better than the popular list; None when one can."""
    with autocommit() as connection:
        standing = rows.standing(connection, username)
    if standing is None:
        return _nobody(username)
    return NO_MODEL if standing.model_version is None else None


def _nobody(username: str) -> str:
    return f"{cache.unknown(username)}; meanwhile, what is popular lately"


def _finish(job: AsyncResult, username: str, timeout_s: float, wait: Wait | None) -> Any:
    try:
        if wait:
            wait(job)
        return job.get(timeout=timeout_s)
    except NoAnswer:
        raise TimeoutError(
            f"no answer for {username!r} within {timeout_s:g} s: is a gpu worker running? The job is {job.id}"
        ) from None
