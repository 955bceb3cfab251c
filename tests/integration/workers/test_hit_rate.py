"""The metric that says that too few reads of cached recommendations find one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from broker.metrics import LedgerCollector, LedgerReader
from broker.settings import settings
from db import recommend_stat
from db.engine import engine, session


@pytest.fixture(autouse=True)
def floor(clean_db: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GRISTMILL_HIT_RATE_READS", "10")
    settings.cache_clear()
    yield
    settings.cache_clear()


def scraped(hits: int, misses: int) -> tuple[float | None, ...]:
    """Hits, misses, hit rate and alert after so many further reads."""
    with session() as opened:
        recommend_stat.count_reads(opened, hits, misses, {})
    registry = CollectorRegistry()
    registry.register(LedgerCollector(LedgerReader()))
    names = ("cache_hits_total", "cache_misses_total", "hit_rate", "hit_rate_low")
    found = tuple(registry.get_sample_value(f"gristmill_recommendation_{name}") for name in names)
    engine().dispose()
    return found


def test_a_hit_rate_under_the_floor_alerts_once_there_are_enough_reads() -> None:
    assert scraped(0, 0) == (0, 0, 1.0, 0)
    assert scraped(3, 6) == (3, 6, pytest.approx(1 / 3), 0)  # too few to say
    assert scraped(4, 0) == (7, 6, pytest.approx(7 / 13), 1)
    assert scraped(17, 0) == (24, 6, 0.8, 0)
