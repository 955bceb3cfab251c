"""What a user is recommended: from the cache, else computed by a worker, stored and returned; needs no torch."""

from db.recommend import FRESH_DAYS
from jobs.recommend import cache
from jobs.recommend.cache import Cached
from jobs.recommend.tasks import pretrain_user


def recommend(
    username: str, top_k: int = 100, *, force: bool = False, timeout_s: float = 60, fresh_days: float = FRESH_DAYS
) -> Cached:
    """The user's list. A miss waits for `recommend.pretrain_user`, whose error is raised as it is.

    Raises UnknownUser when there is no history, TimeoutError when no worker answered in time (the job goes on).
    """
    from celery.exceptions import TimeoutError as NoAnswer

    if not force and (found := cache.read(username, top_k, fresh_days)):
        return found
    job = pretrain_user.submit(username=username, force=True, top_k=top_k)
    try:
        job.get(timeout=timeout_s, propagate=True)
    except NoAnswer:
        raise TimeoutError(
            f"no answer for {username!r} within {timeout_s:g} s: is a gpu worker running? The job is {job.id}"
        ) from None
    found = cache.read(username, top_k, fresh_days, count=False)
    if found is None:
        raise LookupError(f"the history or the model changed while {username!r} was computed: ask again")
    return found
