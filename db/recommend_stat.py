"""How often cached recommendations are read, found and computed: counters of a day."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import text

from db.recommend import IN_USE, MODEL, Executor


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads of the cache: all that were counted, and those of the last days."""

    hits: int
    misses: int
    recent_hits: int
    recent_misses: int


_COUNT = text("""
    INSERT INTO recommendation_stat (day, device, precision, hits, misses, inferences, incremental, inference_seconds)
    VALUES (current_date, :device, :precision, :hits, :misses, :inferences, :incremental, :seconds)
    ON CONFLICT (day, device, precision) DO UPDATE SET
        hits = recommendation_stat.hits + excluded.hits, misses = recommendation_stat.misses + excluded.misses,
        inferences = recommendation_stat.inferences + excluded.inferences,
        incremental = recommendation_stat.incremental + excluded.incremental,
        inference_seconds = recommendation_stat.inference_seconds + excluded.inference_seconds""")

_COUNT_HITS = text(f"""
    UPDATE recommendation_cache c SET hit_count = c.hit_count + r.value::bigint
    FROM jsonb_each_text(CAST(:hits AS jsonb)) AS r WHERE c.username = r.key AND c.model_version = {IN_USE}""")

_TOTALS = text(f"""
    SELECT coalesce(sum(hits), 0)::bigint AS hits, coalesce(sum(misses), 0)::bigint AS misses,
        coalesce(sum(inferences), 0)::bigint AS inferences, coalesce(sum(incremental), 0)::bigint AS incremental,
        coalesce(sum(inference_seconds), 0) AS seconds,
        (SELECT device FROM recommendation_stat WHERE inferences > 0 ORDER BY day DESC, inferences DESC LIMIT 1)
            AS device,
        (SELECT precision FROM recommendation_stat WHERE inferences > 0 ORDER BY day DESC, inferences DESC LIMIT 1)
            AS precision,
        (SELECT count(*) FROM recommendation_cache WHERE model_version = {IN_USE}) AS cached
    FROM recommendation_stat""")

_READS = text("""
    SELECT coalesce(sum(hits), 0)::bigint AS hits, coalesce(sum(misses), 0)::bigint AS misses,
        coalesce(sum(hits) FILTER (WHERE day >= current_date - CAST(:days AS integer)), 0)::bigint AS recent_hits,
        coalesce(sum(misses) FILTER (WHERE day >= current_date - CAST(:days AS integer)), 0)::bigint AS recent_misses
    FROM recommendation_stat""")

_READS_BY_DAY = text("""
    SELECT day, sum(hits)::bigint AS hits, sum(misses)::bigint AS misses FROM recommendation_stat
    WHERE day >= current_date - CAST(:days AS integer) GROUP BY day HAVING sum(hits + misses) > 0 ORDER BY day""")


def count_reads(on: Executor, hits: int, misses: int, by_user: Mapping[str, int]) -> None:
    """Add reads of the cache to the counters and to the users' rows."""
    if hits or misses:
        _count(on, "", "", hits=hits, misses=misses)
    if by_user:
        on.execute(_COUNT_HITS, {"hits": json.dumps(dict(sorted(by_user.items()))), "model": MODEL})


def count_inference(
    on: Executor, device: str, precision: str, users: int, seconds: float, incremental: int = 0
) -> None:
    _count(on, device, precision, inferences=users, incremental=incremental, seconds=seconds)


def totals(on: Executor) -> dict[str, Any]:
    return dict(on.execute(_TOTALS, {"model": MODEL}).mappings().one())


def reads(on: Executor, days: int) -> Reads:
    """Reads of the cache that were counted, for ever and since so many days before today."""
    return Reads(**on.execute(_READS, {"days": days}).mappings().one())


def reads_by_day(on: Executor, days: int) -> list[tuple[date, int, int]]:
    """(day, hits, misses), oldest first."""
    return [(day, hits, misses) for day, hits, misses in on.execute(_READS_BY_DAY, {"days": days})]


def _count(on: Executor, device: str, precision: str, **values: float) -> None:
    zero = {"hits": 0, "misses": 0, "inferences": 0, "incremental": 0, "seconds": 0.0}
    on.execute(_COUNT, {"device": device, "precision": precision, **zero, **values})
