"""What is remembered of recommendations: catalogue, users' profiles, cached lists and counters.

A cached list is fresh when it is young enough, of the profile that the user has now, and of the model in use now; the
database decides this in the statement that reads it, so a change is never followed by a stale answer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, DateTime, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from db.base import Base

MODEL = "recommend"  # the recommender's name in the registry of models
FRESH_DAYS = 7.0
ROWS = 2000  # in one bulk statement: a few megabytes of JSON

Executor = Session | Connection


class CatalogueItem(Base):
    """An item that can be recommended."""

    __tablename__ = "catalogue_item"

    item_id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    features: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    popularity: Mapped[float] = mapped_column(server_default=text("0"))  # recent events, decayed


class UserProfile(Base):
    """A user's history, oldest first, and what it is made of."""

    __tablename__ = "user_profile"

    username: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str | None]
    item_ids: Mapped[list[str]] = mapped_column(JSONB)
    features: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    profile_hash: Mapped[str]
    item_count: Mapped[int]
    model_version: Mapped[int | None]
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))


class RecommendationCache(Base):
    """A user's top list under one version of the model: [[item id, score], …], best first."""

    __tablename__ = "recommendation_cache"
    __table_args__ = (Index("recommendation_cache_age", "cached_at"),)

    username: Mapped[str] = mapped_column(ForeignKey("user_profile.username", ondelete="CASCADE"), primary_key=True)
    profile_hash: Mapped[str]
    model_version: Mapped[int] = mapped_column(primary_key=True)
    basis: Mapped[str] = mapped_column(server_default=text("'model'"))  # or: popular
    state: Mapped[dict[str, Any] | None] = mapped_column(JSONB)  # from which a few new items are taken in cheaply
    items: Mapped[list[list[Any]]] = mapped_column(JSONB)
    top_k: Mapped[int]
    cached_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))
    hit_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class RecommendationStat(Base):
    """Counters of a day; reads have no device, so theirs is empty."""

    __tablename__ = "recommendation_stat"

    day: Mapped[date] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    precision: Mapped[str] = mapped_column(primary_key=True)
    hits: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    misses: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    inferences: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    inference_seconds: Mapped[float] = mapped_column(server_default=text("0"))


@dataclass(frozen=True, slots=True)
class Standing:
    """What a read must know of a user: the profile as it is now, and the model in use (None when there is none)."""

    username: str
    profile_hash: str
    model_version: int | None


_PUT_ITEMS = text("""
    INSERT INTO catalogue_item (item_id, title, features)
    SELECT item_id, title, features FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS r(item_id varchar, title varchar, features jsonb)
    ON CONFLICT (item_id) DO UPDATE SET title = excluded.title, features = excluded.features
    WHERE (catalogue_item.title, catalogue_item.features) IS DISTINCT FROM (excluded.title, excluded.features)""")

_PUT_PROFILES = text("""
    INSERT INTO user_profile (username, external_id, item_ids, profile_hash, item_count)
    SELECT username, external_id, item_ids, profile_hash, jsonb_array_length(item_ids)
    FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS r(username varchar, external_id varchar, item_ids jsonb, profile_hash varchar)
    ON CONFLICT (username) DO UPDATE SET
        external_id = coalesce(excluded.external_id, user_profile.external_id), item_ids = excluded.item_ids,
        profile_hash = excluded.profile_hash, item_count = excluded.item_count,
        features = '{}', model_version = NULL, updated_at = now()
    WHERE user_profile.profile_hash <> excluded.profile_hash""")

# A profile that changed while its list was computed keeps its place: the list's hash then fits it no more.
_PUT_LISTS = text("""
    WITH r AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb))
            AS r(username varchar, profile_hash varchar, features jsonb, items jsonb)
    ), profile AS (
        UPDATE user_profile p SET features = r.features, model_version = :model_version, updated_at = now()
        FROM r WHERE p.username = r.username AND p.profile_hash = r.profile_hash
        RETURNING p.username
    )
    INSERT INTO recommendation_cache (username, profile_hash, items, top_k, model_version, cached_at)
    SELECT r.username, r.profile_hash, r.items, :top_k, :model_version, now() FROM r JOIN profile USING (username)
    ON CONFLICT (username, model_version) DO UPDATE SET
        profile_hash = excluded.profile_hash, items = excluded.items, top_k = excluded.top_k,
        cached_at = excluded.cached_at""")

_STANDING = text("""
    SELECT p.username, p.profile_hash, (SELECT version FROM model WHERE name = :model AND is_current) AS model_version
    FROM user_profile p WHERE p.username = :username""")

_FRESH = """
    FROM recommendation_cache c JOIN user_profile p USING (username, profile_hash)
    JOIN model m ON m.name = :model AND m.is_current AND m.version = c.model_version
    WHERE c.cached_at > now() - make_interval(secs => :fresh_s) AND c.top_k >= :top_k"""

_READ = text(f"""
    SELECT c.username, c.profile_hash, c.items, c.top_k, c.model_version, c.cached_at, c.hit_count {_FRESH}
    AND c.username = :username""")

_FRESH_OF = text(f"SELECT c.username {_FRESH} AND c.username = ANY(:usernames)")

_COUNT = text("""
    INSERT INTO recommendation_stat (day, device, precision, hits, misses, inferences, inference_seconds)
    VALUES (current_date, :device, :precision, :hits, :misses, :inferences, :seconds)
    ON CONFLICT (day, device, precision) DO UPDATE SET
        hits = recommendation_stat.hits + excluded.hits, misses = recommendation_stat.misses + excluded.misses,
        inferences = recommendation_stat.inferences + excluded.inferences,
        inference_seconds = recommendation_stat.inference_seconds + excluded.inference_seconds""")

_COUNT_HITS = text("""
    UPDATE recommendation_cache c SET hit_count = c.hit_count + r.value::bigint
    FROM jsonb_each_text(CAST(:hits AS jsonb)) AS r WHERE c.username = r.key""")

_TOTALS = text("""
    SELECT coalesce(sum(hits), 0)::bigint AS hits, coalesce(sum(misses), 0)::bigint AS misses,
        coalesce(sum(inferences), 0)::bigint AS inferences, coalesce(sum(inference_seconds), 0) AS seconds,
        (SELECT device FROM recommendation_stat WHERE inferences > 0 ORDER BY day DESC, inferences DESC LIMIT 1)
            AS device,
        (SELECT precision FROM recommendation_stat WHERE inferences > 0 ORDER BY day DESC, inferences DESC LIMIT 1)
            AS precision,
        (SELECT count(*) FROM recommendation_cache) AS cached
    FROM recommendation_stat""")

_CLEAN = text(
    "DELETE FROM recommendation_cache WHERE cached_at < now() - make_interval(secs => :seconds) RETURNING username"
)


def put_items(on: Executor, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert or update items {item_id, title, features}; returns how many changed."""
    return _bulk(on, _PUT_ITEMS, rows)


def put_profiles(on: Executor, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert or update histories {username, external_id, item_ids, profile_hash}; returns how many changed."""
    return _bulk(on, _PUT_PROFILES, rows)


def put_lists(on: Executor, rows: Sequence[Mapping[str, Any]], *, model_version: int, top_k: int) -> int:
    """Store computed lists {username, profile_hash, features, items}; returns how many still fitted their profile."""
    return _bulk(on, _PUT_LISTS, rows, model_version=model_version, top_k=top_k)


def standing(on: Executor, username: str) -> Standing | None:
    row = on.execute(_STANDING, {"username": username, "model": MODEL}).one_or_none()
    return None if row is None else Standing(*row)


def read(on: Executor, username: str, top_k: int, fresh_days: float = FRESH_DAYS) -> dict[str, Any] | None:
    """The cached row of a user if it is fresh and long enough."""
    values = {"username": username, "top_k": top_k, "model": MODEL, "fresh_s": fresh_days * 86400}
    row = on.execute(_READ, values).mappings().one_or_none()
    return None if row is None else dict(row)


def fresh(on: Executor, usernames: Sequence[str], top_k: int, fresh_days: float = FRESH_DAYS) -> set[str]:
    """Which of these users have a fresh list."""
    values = {"usernames": list(usernames), "top_k": top_k, "model": MODEL, "fresh_s": fresh_days * 86400}
    return set(on.execute(_FRESH_OF, values).scalars())


def count_reads(on: Executor, hits: int, misses: int, by_user: Mapping[str, int]) -> None:
    """Add reads of the cache to the counters and to the users' rows."""
    if hits or misses:
        _count(on, "", "", hits=hits, misses=misses)
    if by_user:
        on.execute(_COUNT_HITS, {"hits": json.dumps(dict(sorted(by_user.items())))})


def count_inference(on: Executor, device: str, precision: str, users: int, seconds: float) -> None:
    _count(on, device, precision, inferences=users, seconds=seconds)


def totals(on: Executor) -> dict[str, Any]:
    return dict(on.execute(_TOTALS).mappings().one())


def clean(on: Executor, days: float) -> list[str]:
    """Delete lists that are older; returns whose they were."""
    return list(on.execute(_CLEAN, {"seconds": days * 86400}).scalars())


def _count(on: Executor, device: str, precision: str, **values: float) -> None:
    zero = {"hits": 0, "misses": 0, "inferences": 0, "seconds": 0.0}
    on.execute(_COUNT, {"device": device, "precision": precision, **zero, **values})


def _bulk(on: Executor, statement: Any, rows: Sequence[Mapping[str, Any]], **values: Any) -> int:
    changed = 0
    # In one order everywhere, so that two writers of the same users wait for each other instead of deadlocking.
    ordered = sorted(rows, key=lambda row: str(row.get("username") or row.get("item_id")))
    for begin in range(0, len(ordered), ROWS):
        part = json.dumps([dict(row) for row in ordered[begin : begin + ROWS]])
        changed += on.execute(statement, {"rows": part, **values}).rowcount  # type: ignore[attr-defined]
    return changed
