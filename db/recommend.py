"""What is remembered of recommendations: catalogue, users' profiles and cached lists (db/recommend_stat.py: counters).

A cached list is fresh when it is young enough, of the profile that the user has now, and of the model in use now; the
database decides this in the statement that reads it, so a change is never followed by a stale answer. Lists of other
versions stand beside it: of one that is about to come into use, and of the one to which a rollback would go.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from psycopg import Cursor
from sqlalchemy import BigInteger, Connection, DateTime, ForeignKey, Index, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from db.base import Base

MODEL = "recommend"  # the recommender's name in the registry of models
FRESH_DAYS = 8.0  # a week until the next refresh, and a day for it to be late: the old lists serve until it ends
ROWS = 2000  # in one bulk statement: a few megabytes of JSON

Executor = Session | Connection
Transaction = Callable[[], AbstractContextManager[Session]]


class CatalogueItem(Base):
    """An item that can be recommended."""

    __tablename__ = "catalogue_item"
    __table_args__ = (Index("catalogue_item_popularity", text("popularity DESC"), "item_id"),)

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
    incremental: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))  # of these, from a cached state
    inference_seconds: Mapped[float] = mapped_column(server_default=text("0"))


@dataclass(frozen=True, slots=True)
class Standing:
    """What a read must know of a user: the profile as it is now, and the model in use (None when there is none)."""

    username: str
    profile_hash: str
    model_version: int | None


class Look(NamedTuple):
    """A user's standing, and the fresh list of it: None where there is none, or the reader holds it already."""

    profile_hash: str
    model_version: int | None
    items: str | None  # JSON, as it is stored
    top_k: int
    cached_at: datetime
    basis: str


@dataclass(frozen=True, slots=True)
class History:
    """A user's profile as it is now, and the state that a cached list under some version was made with."""

    username: str
    profile_hash: str
    item_ids: list[str]
    cached_hash: str | None
    state: dict[str, Any] | None


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

# Rows are locked in the order of their names by whatever changes several: two statements would else end in a deadlock.
_PUT_POPULARITY = text("""
    WITH changed AS MATERIALIZED (
        SELECT i.item_id AS key, r.popularity AS value
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(item_id varchar, popularity float8)
        JOIN catalogue_item i ON i.item_id = r.item_id AND i.popularity <> r.popularity
        ORDER BY i.item_id FOR NO KEY UPDATE OF i)
    UPDATE catalogue_item SET popularity = value FROM changed WHERE item_id = key""")

# A profile that changed while its list was computed keeps its place: the list's hash then fits it no more.
_PUT_LISTS = text("""
    WITH r AS MATERIALIZED (
        SELECT r.* FROM jsonb_to_recordset(CAST(:rows AS jsonb))
            AS r(username varchar, profile_hash varchar, features jsonb, items jsonb, basis varchar, state jsonb)
        JOIN user_profile p ON p.username = r.username AND p.profile_hash = r.profile_hash
        ORDER BY p.username FOR NO KEY UPDATE OF p
    ), profile AS (
        UPDATE user_profile p SET features = r.features, model_version = :model_version, updated_at = now()
        FROM r WHERE p.username = r.username
    )
    INSERT INTO recommendation_cache (username, profile_hash, items, basis, state, top_k, model_version, cached_at)
    SELECT username, profile_hash, items, coalesce(basis, 'model'), state, :top_k, :model_version, now()
    FROM r ORDER BY username
    ON CONFLICT (username, model_version) DO UPDATE SET
        profile_hash = excluded.profile_hash, items = excluded.items, basis = excluded.basis, state = excluded.state,
        top_k = excluded.top_k, cached_at = excluded.cached_at""")

IN_USE = "(SELECT version FROM model WHERE name = :model AND is_current)"

_STANDING = text(f"""
    SELECT p.username, p.profile_hash, {IN_USE} AS model_version FROM user_profile p WHERE p.username = :username""")

_FRESH = """
    FROM recommendation_cache c JOIN user_profile p USING (username, profile_hash)
    WHERE c.cached_at > now() - make_interval(secs => :fresh_s) AND c.top_k >= :top_k"""

# For a bare cursor. The list is fetched only if the caller's copy, of this hash and version, is not the valid one.
_LOOK = f"""
    SELECT p.profile_hash, m.version, c.items::text, c.top_k, c.cached_at, c.basis
    FROM user_profile p
    LEFT JOIN model m ON m.name = '{MODEL}' AND m.is_current
    LEFT JOIN recommendation_cache c ON c.username = p.username AND c.model_version = m.version
        AND c.profile_hash = p.profile_hash AND c.top_k >= %(top_k)s
        AND c.cached_at > now() - make_interval(secs => %(fresh_s)s)
        AND (p.profile_hash, m.version) IS DISTINCT FROM (%(hash)s::varchar, %(version)s::integer)
    WHERE p.username = %(username)s"""

_FRESH_OF = text(f"""
    SELECT c.username {_FRESH} AND c.username = ANY(:usernames)
    AND c.model_version = coalesce(CAST(:version AS integer), {IN_USE})""")

_HISTORIES = text("""
    SELECT p.username, p.profile_hash, p.item_ids, c.profile_hash AS cached_hash, c.state
    FROM user_profile p LEFT JOIN recommendation_cache c
        ON c.username = p.username AND c.model_version = :version AND c.state IS NOT NULL
    WHERE p.username = ANY(:usernames)""")

_BEHIND = text(f"""
    SELECT count(*) FROM user_profile WHERE username NOT IN (
        SELECT c.username {_FRESH} AND c.model_version = :version)""")

# A range of names; in their order, as lists are written, so that the two wait for each other instead of deadlocking.
_RENEW = text("""
    WITH part AS (
        SELECT username FROM recommendation_cache
        WHERE model_version = :version AND username > :after AND cached_at < coalesce(:since, now())
        ORDER BY username LIMIT :rows FOR UPDATE
    ), renewed AS (
        UPDATE recommendation_cache c SET cached_at = now() FROM part
        WHERE c.username = part.username AND c.model_version = :version
    )
    SELECT max(username) FROM part""").bindparams(bindparam("since", type_=DateTime(timezone=True)))

# One pass over the index: a million names stay where they are, and only the bounds come out.
_RANGES = text("""
    SELECT min(username), max(username), count(*)
    FROM (SELECT username, (row_number() OVER (ORDER BY username) - 1) / :users AS part FROM user_profile) AS numbered
    GROUP BY part ORDER BY part""")

_USERNAMES = text("SELECT username FROM user_profile WHERE username BETWEEN :first AND :last ORDER BY username")


def _deleted(condition: str) -> str:
    """What others hold is passed over: it is being written anew, and else the next round's."""
    return f"""
    DELETE FROM recommendation_cache WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM recommendation_cache WHERE {condition} FOR UPDATE SKIP LOCKED))"""


_CLEAN = text(f"{_deleted('cached_at < now() - make_interval(secs => :seconds)')} RETURNING username")

# What is newer than the version in use may be about to come into use.
_CLEAN_VERSIONS = text(
    _deleted(f"model_version < {IN_USE} AND model_version IS DISTINCT FROM CAST(:before AS integer)")
)


def put_items(on: Executor, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert or update items {item_id, title, features}; returns how many changed."""
    return _bulk(on, _PUT_ITEMS, rows)


def put_profiles(on: Executor, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert or update histories {username, external_id, item_ids, profile_hash}; returns how many changed."""
    return _bulk(on, _PUT_PROFILES, rows)


def put_popularity(on: Executor, values: Mapping[str, float]) -> int:
    """Set how popular items of the catalogue are: recent events, decayed; returns how many changed."""
    return _bulk(on, _PUT_POPULARITY, [{"item_id": item, "popularity": value} for item, value in values.items()])


def put_lists(on: Executor, rows: Sequence[Mapping[str, Any]], *, model_version: int, top_k: int) -> int:
    """Store lists under a version, in use or not: {username, profile_hash, features, items, basis, state}, the last two
    if there are any. Returns how many still fitted their profile."""
    return _bulk(on, _PUT_LISTS, rows, model_version=model_version, top_k=top_k)


def standing(on: Executor, username: str) -> Standing | None:
    row = on.execute(_STANDING, {"username": username, "model": MODEL}).one_or_none()
    return None if row is None else Standing(*row)


def look(
    cursor: Cursor[Any],
    username: str,
    top_k: int,
    fresh_days: float = FRESH_DAYS,
    held: tuple[str, int | None] | None = None,
) -> Look | None:
    """A user's standing and fresh list, in one statement; None for an unknown user. held: profile hash and version of
    the list that the caller has; it is the fresh one if the standing is the same."""
    profile_hash, version = held or (None, None)
    values = {"username": username, "top_k": top_k, "fresh_s": fresh_days * 86400.0}
    row = cursor.execute(_LOOK, values | {"hash": profile_hash, "version": version}).fetchone()
    return None if row is None else Look(*row)


def fresh(
    on: Executor, usernames: Sequence[str], top_k: int, fresh_days: float = FRESH_DAYS, version: int | None = None
) -> set[str]:
    """Which of these users have a fresh list under this version, or the one in use."""
    values = {"usernames": list(usernames), "top_k": top_k, "model": MODEL, "fresh_s": fresh_days * 86400}
    return set(on.execute(_FRESH_OF, values | {"version": version}).scalars())


def histories(on: Executor, usernames: Sequence[str], version: int) -> list[History]:
    """What these users did, and what their lists under this version were made from."""
    found = on.execute(_HISTORIES, {"usernames": list(usernames), "version": version})
    return [History(*row) for row in found]


def behind(on: Executor, version: int, top_k: int) -> int:
    """How many users have no fresh list under this version."""
    values = {"version": version, "top_k": top_k, "fresh_s": FRESH_DAYS * 86400}
    return int(on.execute(_BEHIND, values).scalar_one())


def renew(transaction: Transaction, version: int, since: datetime | None = None) -> None:
    """Count the lists of this version as new: of the same profile and version they are what would be computed. So a
    version that comes back into use serves at once, and one that stays goes on serving.

    In ranges of names, each a `transaction` of its own: a million rows are never locked, nor held back from vacuum,
    together. since: what is as new as this stays as it is, so that who was killed goes on where that was.
    """
    after: str | None = ""
    while after is not None:
        with transaction() as session:
            values = {"version": version, "after": after, "since": since, "rows": ROWS}
            after = session.execute(_RENEW, values).scalar_one()


def ranges(on: Executor, users: int) -> list[tuple[str, str, int]]:
    """All users in the order of their names, cut into ranges of so many: first, last, how many."""
    return [(first, last, count) for first, last, count in on.execute(_RANGES, {"users": users})]


def usernames(on: Executor, first: str, last: str) -> list[str]:
    """The users of a range, both ends included, those too who came after it was cut."""
    return list(on.execute(_USERNAMES, {"first": first, "last": last}).scalars())


def clean(on: Executor, days: float) -> list[str]:
    """Delete lists that are older; returns whose they were."""
    return list(on.execute(_CLEAN, {"seconds": days * 86400}).scalars())


def clean_versions(on: Executor, before: int | None) -> int:
    """Delete lists of versions older than the one in use, but for `before`, to which a rollback would go."""
    found = on.execute(_CLEAN_VERSIONS, {"model": MODEL, "before": before})
    return found.rowcount  # type: ignore[attr-defined]


def _bulk(on: Executor, statement: Any, rows: Sequence[Mapping[str, Any]], **values: Any) -> int:
    changed = 0
    # In one order everywhere, so that two writers of the same users wait for each other instead of deadlocking.
    ordered = sorted(rows, key=lambda row: str(row.get("username") or row.get("item_id")))
    for begin in range(0, len(ordered), ROWS):
        part = json.dumps([dict(row) for row in ordered[begin : begin + ROWS]])
        changed += on.execute(statement, {"rows": part, **values}).rowcount  # type: ignore[attr-defined]
    return changed
