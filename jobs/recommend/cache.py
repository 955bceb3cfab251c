"""Cached recommendations: Redis in front of Postgres, never stale, cheap to count; light enough for a web app.

Postgres says in one indexed look-up which profile and model are valid now; the list itself comes from Redis when it
is of those, else from Postgres, else it is a miss. So nothing has to be invalidated in Redis, and a Redis that was away
or restored from a backup does no harm.
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
from db.engine import autocommit, session
from db.recommend import FRESH_DAYS
from jobs.recommend.popular import popular

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
    source: Literal["redis", "postgres", "computed"]
    basis: Literal["model", "popular"] = "model"
    reason: str = ""


def read(username: str, top_k: int = 100, fresh_days: float = FRESH_DAYS, *, count: bool = True) -> Cached | None:
    """The user's fresh list, cut to `top_k`, or None for a miss; both are counted. Raises UnknownUser."""
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}: ask for at least 1")
    with autocommit() as connection:
        standing = rows.standing(connection, username)
        if standing is None:
            raise UnknownUser(unknown(username))
        found, source = _from_redis(standing, top_k, fresh_days), "redis"
        if found is None:
            found, source = rows.read(connection, username, top_k, fresh_days), "postgres"
            if found is not None:
                put([found], fresh_days)
    if count:
        _count(username, hit=found is not None)
    if found is None:
        return None
    if found.get("basis") == POPULAR:
        return popular_list(username, top_k, NOTHING_KNOWN.format(username), found["model_version"])
    items = [(str(item), float(score)) for item, score in found["items"][:top_k]]
    where: Literal["redis", "postgres"] = "redis" if source == "redis" else "postgres"
    return Cached(username, items, found["model_version"], _moment(found["cached_at"]), where)


def popular_list(username: str, top_k: int, reason: str, model_version: int | None = None) -> Cached:
    """What is popular at this moment, without what the user, if there is one, has seen."""
    with session() as opened:
        user = opened.get(rows.UserProfile, username)
        found = popular(opened, top_k, seen=user.item_ids if user else ())
    items = [(item.item_id, round(item.popularity, 4)) for item in found]
    return Cached(username, items, model_version, datetime.now(UTC), "postgres", POPULAR, reason)


def unknown(username: str) -> str:
    return f"unknown user {username!r}: import a history with recommend.import_data, or pass item_ids"


def put(found: Sequence[Mapping[str, Any]], fresh_days: float = FRESH_DAYS) -> None:
    """Copy cached rows to Redis in one round trip; if Redis is away they stay in Postgres only."""
    try:
        with tier.redis_client().pipeline(transaction=False) as pipeline:
            for row in found:
                names = ("profile_hash", "model_version", "top_k", "items")
                value = {name: row[name] for name in names} | {"cached_at": _moment(row["cached_at"]).isoformat()}
                value["basis"] = row.get("basis") or "model"
                key = tier.RECOMMENDATIONS.format(username=row["username"])
                pipeline.set(key, json.dumps(value), ex=max(1, round(fresh_days * 86400)))
            pipeline.execute()
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


def _from_redis(standing: rows.Standing, top_k: int, fresh_days: float) -> dict[str, Any] | None:
    try:
        text = tier.redis_client().get(tier.RECOMMENDATIONS.format(username=standing.username))
    except redis.RedisError as error:
        tier.away(error, "Postgres serves meanwhile")
        return None
    if not isinstance(text, str):
        return None
    found: dict[str, Any] = json.loads(text)
    valid = (
        found["profile_hash"] == standing.profile_hash
        and found["model_version"] == standing.model_version
        and found["top_k"] >= top_k
        and _moment(found["cached_at"]) > datetime.now(UTC) - timedelta(days=fresh_days)
    )
    return found if valid else None


def _count(username: str, *, hit: bool) -> None:
    try:
        tier.count_hit(username) if hit else tier.count_miss()
    except redis.RedisError:
        with session() as opened:
            recommend_stat.count_reads(opened, int(hit), int(not hit), {username: 1} if hit else {})


def _moment(value: datetime | str) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)
