"""A recommendation on demand: from the cache, or computed on a miss and then read."""

from typing import Any

import pytest
from sqlalchemy import text

from broker.errors import GristmillError
from db.engine import session
from jobs.recommend import cache
from jobs.recommend.serve import recommend
from tests.integration.recommend.running import drain

pytestmark = pytest.mark.usefixtures("trained")


def work(_job: object) -> None:
    drain()


def test_a_miss_is_computed_and_the_next_question_is_answered_from_the_cache() -> None:
    computed, cached = recommend("u1", 3, wait=work), recommend("u1", 20, wait=pytest.fail)

    assert (computed.source, cached.source) == ("computed", "redis")
    assert len(computed.items) == 3
    assert computed.items == cached.items[:3]
    assert (cache.stats()["hits"], cache.stats()["misses"]) == (1, 1)


def test_a_fresh_list_is_computed_again_when_it_is_forced_or_too_old_for_the_caller() -> None:
    first = recommend("u1", wait=work)
    forced = recommend("u1", force=True, wait=work)
    with session() as opened:
        opened.execute(text("UPDATE recommendation_cache SET cached_at = cached_at - interval '3 days'"))
    cache.tier.redis_client().flushdb()
    renewed = recommend("u1", fresh_days=2, wait=work)

    assert first.cached_at < forced.cached_at < renewed.cached_at
    assert renewed.source == "computed"


def test_a_history_that_changes_meanwhile_is_said() -> None:
    def change(job: Any) -> None:
        drain()
        with session() as opened:
            opened.execute(text("UPDATE user_profile SET profile_hash = 'another' WHERE username = 'u1'"))

    with pytest.raises(GristmillError, match="the history or the model changed while 'u1' was computed: ask again"):
        recommend("u1", wait=change)


def test_without_a_worker_the_caller_is_told_after_its_patience() -> None:
    with pytest.raises(TimeoutError, match=r"no answer for 'u1' within 0\.1 s: is a gpu worker running\?"):
        recommend("u1", timeout_s=0.1)
