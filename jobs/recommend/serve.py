"""What a user is recommended: from the cache, else computed by a worker, stored and returned; needs no torch."""

from collections.abc import Callable
from dataclasses import replace

from celery.exceptions import TimeoutError as NoAnswer
from celery.result import AsyncResult

from broker.errors import GristmillError
from db.recommend import FRESH_DAYS
from jobs.recommend import cache
from jobs.recommend.cache import Cached
from jobs.recommend.tasks import pretrain_user

KEPT = 100  # a list that is computed for a short answer is kept long enough for the next question


def recommend(
    username: str, top_k: int = 100, *, force: bool = False, timeout_s: float = 60, fresh_days: float = FRESH_DAYS,
    wait: Callable[[AsyncResult], object] | None = None,
) -> Cached:  # fmt: skip
    """The user's list. A miss waits for `recommend.pretrain_user`, whose error is raised as it is.

    wait: how, if not for `timeout_s` in silence. Raises UnknownUser when there is no history, TimeoutError when no
    worker answered in time (the job goes on).
    """
    if not force and (found := cache.read(username, top_k, fresh_days)):
        return found
    # What the job takes for fresh may be too old for this caller.
    params = {"username": username, "top_k": max(top_k, KEPT), "force": force or fresh_days < FRESH_DAYS}
    job = pretrain_user.apply_async(kwargs=params, priority="interactive")
    try:
        wait(job) if wait else job.get(timeout=timeout_s)
    except NoAnswer:
        raise TimeoutError(
            f"no answer for {username!r} within {timeout_s:g} s: is a gpu worker running? The job is {job.id}"
        ) from None
    found = cache.read(username, top_k, fresh_days, count=False)  # the end of a miss, not a hit
    if found is None:
        raise GristmillError(f"the history or the model changed while {username!r} was computed: ask again")
    return replace(found, source="computed")
