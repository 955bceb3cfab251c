"""Reading recommendations: fresh or not at all, from Redis or Postgres, counted cheaply."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from broker import cache as tier
from db.engine import session
from jobs.recommend import cache
from jobs.recommend.tasks import pretrain_all, pretrain_user, train
from jobs.upkeep.tasks import clean_cache, flush_stats
from tests.integration.recommend.conftest import USERS
from tests.integration.recommend.running import run


@pytest.fixture(autouse=True)
def computed(trained: dict[str, Any]) -> None:
    run(pretrain_all, top_k=20)


@pytest.fixture
def without_redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A client of a Redis that is not there."""
    import redis

    away = redis.Redis(unix_socket_path="/nonexistent/redis.sock")
    monkeypatch.setattr(tier, "redis_client", lambda: away)
    yield
    away.close()


def execute(statement: str) -> None:
    with session() as opened:
        opened.execute(text(statement))


def test_a_computed_list_is_read_from_redis_and_without_it_from_postgres() -> None:
    from_redis = cache.read("u1", 20)
    tier.redis_client().flushdb()
    from_postgres = cache.read("u1", 20)
    again = cache.read("u1", 20)

    assert from_redis
    assert from_postgres
    assert again
    assert (from_redis.source, from_postgres.source, again.source) == ("redis", "postgres", "redis")
    assert from_redis.items == from_postgres.items == again.items
    assert len(from_redis.items) == 20


def test_a_shorter_list_is_cut_and_a_longer_one_is_a_miss() -> None:
    cut, missed = cache.read("u1", 3), cache.read("u1", 21)

    assert cut
    assert len(cut.items) == 3
    assert missed is None


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE user_profile SET profile_hash = 'another' WHERE username = 'u1'",
        "UPDATE model SET version = 9 WHERE is_current",
        "UPDATE model SET is_current = false",
    ],
)
def test_a_changed_profile_or_model_is_a_miss_at_once(change: str) -> None:
    execute(change)
    from_redis = cache.read("u1", 20)
    tier.redis_client().flushdb()
    from_postgres = cache.read("u1", 20)

    assert from_redis is None
    assert from_postgres is None


def test_a_list_older_than_a_week_and_a_day_is_a_miss() -> None:
    tier.redis_client().flushdb()
    execute("UPDATE recommendation_cache SET cached_at = now() - interval '8 days 1 minute'")

    assert cache.read("u1", 20) is None
    assert cache.read("u1", 20, fresh_days=9)


def test_a_new_history_is_served_after_its_own_computation() -> None:
    before = cache.read("u1", 20)
    run(pretrain_user, username="u1", item_ids=["i1", "i2", "i3"], top_k=20)
    after = cache.read("u1", 20)

    assert before
    assert after
    assert after.cached_at > before.cached_at
    assert not {"i1", "i2", "i3"} & {item for item, _ in after.items}


def test_a_new_model_in_use_makes_every_list_a_miss() -> None:
    better = run(train, data="database", preset="quick", epochs=30, patience=30, rate=0.01, dropout=0)

    assert better["is_current"]
    assert cache.read("u1", 20) is None


@pytest.mark.usefixtures("without_redis")
def test_postgres_serves_and_counts_while_redis_is_away() -> None:
    found = cache.read("u1", 20)

    assert found
    assert found.source == "postgres"
    assert cache.stats()["hits"] == 1


def test_hits_and_misses_are_counted_for_all_and_for_each_user() -> None:
    for _ in range(3):
        cache.read("u1", 20)
    cache.read("u2", 500)

    stats = cache.stats()

    assert (stats["hits"], stats["misses"], stats["hit_rate"]) == (3, 1, 0.75)
    assert (stats["inferences"], stats["device"], stats["precision"]) == (USERS, "cpu", "fp64")
    assert stats["mean_seconds"] > 0
    with session() as opened:
        counted = opened.execute(text("SELECT hit_count FROM recommendation_cache WHERE username = 'u1'")).scalar()
    assert counted == 3


def test_a_list_in_redis_that_is_no_longer_valid_counts_as_a_miss_alone() -> None:
    execute("UPDATE user_profile SET profile_hash = 'another' WHERE username = 'u1'")
    execute("DELETE FROM user_profile WHERE username = 'u2'")

    assert cache.read("u1", 20) is None
    with pytest.raises(cache.UnknownUser):
        cache.read("u2", 20)

    stats = cache.stats()
    assert (stats["hits"], stats["misses"]) == (0, 1)


def test_flushing_counts_each_read_once_also_after_a_killed_flush() -> None:
    cache.read("u1", 20)
    tier.redis_client().rename(tier.READS, tier.READS_TAKEN)  # as a flush that died before it wrote
    cache.read("u1", 20)

    assert run(flush_stats)["reads"] == 1
    assert run(flush_stats)["reads"] == 1
    assert run(flush_stats)["reads"] == 0
    assert cache.stats()["hits"] == 2


def test_the_clean_up_deletes_old_lists_in_both_places() -> None:
    execute("UPDATE recommendation_cache SET cached_at = now() - interval '31 days' WHERE username = 'u1'")

    assert run(clean_cache, days=30)["deleted"] == 1
    assert cache.read("u1", 20) is None
    assert cache.read("u2", 20)
    assert cache.cleanup(days=0) == USERS - 1
    assert cache.read("u2", 20) is None


def test_an_unknown_user_is_named_with_the_remedy() -> None:
    with pytest.raises(cache.UnknownUser, match="unknown user 'nobody': import a history"):
        cache.read("nobody")
    with pytest.raises(ValueError, match="top_k is -1: ask for at least 1"):
        cache.read("u1", -1)


def test_every_key_in_redis_is_documented() -> None:
    cache.read("u1", 20)
    cache.read("u1", 500)

    own = [str(key) for key in tier.redis_client().keys("gristmill:*")]

    prefixes = tuple(key.split("{")[0] for key in tier.KEYS)
    assert own
    assert all(key.startswith(prefixes) for key in own)
