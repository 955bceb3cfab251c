"""Cached recommendations: Redis in front of Postgres, never stale, cheap to count; light enough for a web app.

Postgres says in one indexed look-up which profile and model are valid now; the list itself comes from Redis when it
is of those, else the same look-up brings it, else it is a miss. So nothing has to be invalidated in Redis, and a Redis
that was away or restored from a backup does no harm.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import redis

from broker import cache as tier
from db import recommend as rows
from db import recommend_stat
from db.engine import autocommit, bare_cursor, session
from db.recommend import FRESH_DAYS
from jobs.recommend.popular import popular

Origin = Literal["redis", "postgres", "computed"]
POPULAR: Literal["popular"] = "popular"
NOTHING_KNOWN = "the model in use knows nothing that user {!r} has seen: what is popular lately"


class UnknownUser(LookupError):
    """No history of this user is known."""


@dataclass(frozen=True, slots=True)
class Cached:
    """A fresh list: [(item id, score), …], best first.

    basis: what it stands on, "model", or "popular" where nothing is known of the user: then the scores are the items'
    popularity, and the reason says why.
    """

    username: str
    items: list[tuple[str, float]]
    model_version: int | None
    cached_at: datetime
    source: Origin
    basis: Literal["model", "popular"] = "model"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a read found, and the version in use; None while there is none."""

    found: Cached | None
    model_version: int | None


def read(username: str, top_k: int = 100, fresh_days: float = FRESH_DAYS, *, count: bool = True) -> Cached | None:
    """The user's fresh list, cut to `top_k`, or None for a miss; both are counted. Raises UnknownUser."""
    return look(username, top_k, fresh_days, count=count).found


def look(username: str, top_k: int = 100, fresh_days: float = FRESH_DAYS, *, count: bool = True) -> Looked:
    """As `read`, with what a miss may be due to. One round trip to Redis, in which what is there counts as a hit before
    it is known to be one, and one to Postgres; a second one to Redis only where it had no list, or an old one."""
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}: ask for at least 1")
    text, reachable = _take(username, count)
    held = json.loads(text) if text else None
    if held and not _usable(held, top_k, fresh_days):
        held = None
    of = (held["profile_hash"], held["model_version"]) if held else None
    with bare_cursor() as cursor:
        now = rows.look(cursor, username, top_k, fresh_days, of)
    source: Origin = "redis"
    entry = None
    if now is not None and now.items is not None:
        entry, source = _entry(now._asdict(), now.items), "postgres"
        held = json.loads(entry)
    elif now is None or of != (now.profile_hash, now.model_version):
        held = None
    hit, miss = held is not None, held is None and now is not None
    counts = {f"{tier.HIT}{username}": hit - (text is not None), tier.MISSES: int(miss)} if count else {}
    _tell(username, entry, fresh_days, {name: number for name, number in counts.items() if number}, reachable)
    if now is None:
        raise UnknownUser(unknown(username))
    return Looked(_cached(username, held, top_k, source) if held else None, now.model_version)


def popular_list(username: str, top_k: int, reason: str, model_version: int | None = None) -> Cached:
    """What is popular at this moment, without what the user, if there is one, has seen."""
    with session() as opened:
        user = opened.get(rows.UserProfile, username)
        found = popular(opened, top_k, seen=user.item_ids if user else ())
    items = [(item.item_id, round(item.popularity, 4)) for item in found]
    return Cached(username, items, model_version, datetime.now(UTC), "postgres", POPULAR, reason)


def unknown(username: str) -> str:
    return f"unknown user {username!r}: import a history with recommend.import_data"


def put(found: Sequence[Mapping[str, Any]], fresh_days: float = FRESH_DAYS) -> None:
    """Copy cached rows to Redis in one round trip; if Redis is away they stay in Postgres only."""
    try:
        tier.keep({row["username"]: _entry(row, json.dumps(row["items"])) for row in found}, fresh_days * 86400)
    except redis.RedisError as error:
        tier.away(error, "Postgres serves meanwhile")


def stats() -> dict[str, Any]:
    """Hits, misses, hit_rate, inferences (incremental, rebuilt), mean_seconds of one, latest device and precision."""
    tier.flush_reads()
    with autocommit() as connection:
        found = recommend_stat.totals(connection)
    reads, inferences = found["hits"] + found["misses"], found["inferences"]
    return {
        "hits": found["hits"],
        "misses": found["misses"],
        "hit_rate": round(found["hits"] / reads, 4) if reads else None,
        "inferences": inferences,
        "incremental": found["incremental"],
        "rebuilt": inferences - found["incremental"],
        "mean_seconds": round(found["seconds"] / inferences, 6) if inferences else None,
        "device": found["device"],
        "precision": found["precision"],
        "cached_users": found["cached"],
    }


def cleanup(days: float = 30) -> int:
    """Delete lists older than this; returns how many."""
    if days < 0:
        raise ValueError(f"days is {days}: use 0 or more")
    return tier.clean(days)


def _take(username: str, count: bool) -> tuple[str | None, bool]:
    """What Redis has of this user, and whether it answered."""
    try:
        return tier.take(username, count=count), True
    except redis.RedisError as error:
        tier.away(error, "Postgres serves meanwhile")
        return None, False


def _usable(held: Mapping[str, Any], top_k: int, fresh_days: float) -> bool:
    young = datetime.fromisoformat(held["cached_at"]) > datetime.now(UTC) - timedelta(days=fresh_days)
    return bool(held["top_k"] >= top_k and young)


def _entry(row: Mapping[str, Any], items: str) -> str:
    """A row as Redis has it; its items are JSON already, which is most of it."""
    head = {name: row[name] for name in ("profile_hash", "model_version", "top_k")}
    head |= {"cached_at": row["cached_at"].isoformat(), "basis": row.get("basis") or "model"}
    return f'{json.dumps(head)[:-1]}, "items": {items}}}'


def _tell(username: str, entry: str | None, fresh_days: float, counts: Mapping[str, int], reachable: bool) -> None:
    """Redis, what it is to keep and to count; counts go to Postgres while it is away."""
    if not entry and not counts:
        return
    try:
        if reachable:
            return tier.keep({username: entry} if entry else {}, fresh_days * 86400, counts)
    except redis.RedisError as error:
        tier.away(error, "Postgres serves meanwhile")
    if counts:
        hits = sum(number for name, number in counts.items() if name != tier.MISSES)
        with session() as opened:
            recommend_stat.count_reads(opened, hits, counts.get(tier.MISSES, 0), {username: hits} if hits else {})
    return None


def _cached(username: str, held: Mapping[str, Any], top_k: int, source: Origin) -> Cached:
    version = held["model_version"]
    if held.get("basis") == POPULAR:
        return popular_list(username, top_k, NOTHING_KNOWN.format(username), version)
    items = [(item, score) for item, score in held["items"][:top_k]]
    return Cached(username, items, version, datetime.fromisoformat(held["cached_at"]), source)
