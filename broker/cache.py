"""The Redis tier of caches: its client and every key of ours in Redis.

Whatever is here may be lost at any moment: Postgres has the rows, and a reader that finds Redis away asks Postgres.
Celery's own keys (the queues `gpu`, `cpu`, …, `unacked*`, `_kombu.binding.*`) are kombu's business.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

import redis
import structlog
from sqlalchemy.orm import Session

from broker.settings import make_client
from db import recommend as rows
from db import recommend_stat, registry
from db.engine import session

log = structlog.get_logger()

RECOMMENDATIONS: Final = "gristmill:recommend:list:{username}"
READS: Final = "gristmill:recommend:reads"
READS_TAKEN: Final = "gristmill:recommend:reads:taken"
PACE: Final = "gristmill:pace:{service}"
HIT: Final = "hit:"  # fields of READS: hit:<username>, and
MISSES: Final = "misses"

KEYS: Final = {
    RECOMMENDATIONS: (
        "JSON of a user's cached row (profile_hash, model_version, top_k, cached_at, items); "
        "lives as long as the row is fresh, 8 days by default"
    ),
    READS: "hash of reads not yet in Postgres: `hit:<username>` and `misses`; until `upkeep.flush_stats` takes it",
    READS_TAKEN: "READS while it is written to Postgres; left behind by a killed flush, finished by the next one",
    PACE: "time in seconds at which the next request to a remote service is due (`broker/pace.py`); minutes",
}


# KEYS: a user's list, READS. ARGV: the field to count a hit in, or nothing.
_TAKE = """
local held = redis.call('GET', KEYS[1])
if held and ARGV[1] ~= '' then redis.call('HINCRBY', KEYS[2], ARGV[1], 1) end
return held
"""


@cache
def redis_client() -> "redis.Redis":
    """This process's client of the broker's Redis, with text in and out. It waits half a second, never more."""
    return make_client(decode_responses=True, socket_connect_timeout=0.5, socket_timeout=0.5)


def take(username: str, *, count: bool) -> str | None:
    """The JSON that is kept for this user, counted as a hit if there is any; in one round trip. Raises RedisError."""
    key = RECOMMENDATIONS.format(username=username)
    found = redis_client().eval(_TAKE, 2, key, READS, f"{HIT}{username}" if count else "")
    return found if isinstance(found, str) else None


def keep(entries: Mapping[str, str], fresh_s: float, counts: Mapping[str, int] | None = None) -> None:
    """Keep JSON by username for so long, and add to fields of READS; in one round trip. Raises RedisError."""
    with redis_client().pipeline(transaction=False) as pipeline:
        for username, value in entries.items():
            pipeline.set(RECOMMENDATIONS.format(username=username), value, ex=max(1, round(fresh_s)))
        for name, number in (counts or {}).items():
            pipeline.hincrby(READS, name, number)
        pipeline.execute()


def flush_reads() -> int:
    """Write the reads counted in Redis to Postgres; returns how many. Nothing happens while Redis is away."""
    try:
        hits, misses = _take_reads()
    except redis.RedisError as error:
        away(error, "counts are written when it is back")
        return 0
    if not hits and not misses:
        return 0
    with session() as opened:
        recommend_stat.count_reads(opened, sum(hits.values()), misses, hits)
    try:
        redis_client().delete(READS_TAKEN)
    except redis.RedisError as error:
        away(error, "these reads will be counted twice")
    return sum(hits.values()) + misses


def clean(days: float) -> int:
    """Delete cached lists older than this, and of versions that no rollback goes to; returns how many."""
    with session() as opened:
        usernames = rows.clean(opened, days)
        superseded = clean_superseded(opened)
    forget(usernames)
    return len(usernames) + superseded


def clean_superseded(on: Session) -> int:
    """Delete lists of versions older than the one in use, but for that a rollback would go to. Returns how many."""
    before = registry.previous(on, rows.MODEL)
    return rows.clean_versions(on, before.version if before else None)


def forget(usernames: Sequence[str]) -> None:
    """Remove users' lists from Redis."""
    try:
        if usernames:
            redis_client().unlink(*(RECOMMENDATIONS.format(username=name) for name in usernames))
    except redis.RedisError as error:
        away(error, "the lists expire there by themselves")


def away(error: redis.RedisError, remedy: str) -> None:
    log.warning("cache_tier_away", reason=str(error), remedy=remedy)


def _take_reads() -> tuple[dict[str, int], int]:
    """Hits by user and misses, set aside under READS_TAKEN until they are written."""
    client = redis_client()
    if not client.exists(READS_TAKEN):
        try:
            client.rename(READS, READS_TAKEN)
        except redis.ResponseError:  # no such key: nothing was read
            return {}, 0
    taken = {str(name): int(n) for name, n in client.hgetall(READS_TAKEN).items()}
    hits = {name.removeprefix(HIT): n for name, n in taken.items() if name.startswith(HIT) and n}
    return hits, taken.get(MISSES, 0)
