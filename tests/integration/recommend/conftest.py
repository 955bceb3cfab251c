"""A small data set, imported, and a quick model trained on it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.cache import redis_client
from db.interactions import HALF_LIFE
from jobs.recommend.sources.settings import settings
from jobs.recommend.tasks import import_data, train
from tests import rows
from tests.anilist import AniList, entry, medium, serving
from tests.integration.recommend.running import run

USERS, ITEMS = 30, 40


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Users who walk the items in circles."""
    random, lines = np.random.default_rng(0), ["user,item,timestamp"]
    for user in range(USERS):
        start, length = int(random.integers(0, ITEMS)), int(random.integers(5, 15))
        lines += [f"u{user},i{(start + step) % ITEMS},{step}" for step in range(length)]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    lines = ["item,title,genres,year", *(f"i{n},Title {n},g{n % 3}|h{n % 2},{1990 + n}" for n in range(ITEMS))]
    path = tmp_path / "items.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def imported(clean_db: Path, events: Path, catalogue: Path) -> dict[str, Any]:
    redis_client.cache_clear()
    result: dict[str, Any] = run(import_data, data=str(events), catalogue=str(catalogue))
    return result


@pytest.fixture(scope="session")
def once_trained(services: Path) -> dict[str, Any]:
    """What the first training gave; the tests that follow begin with its rows."""
    return {}


@pytest.fixture
def trained(request: pytest.FixtureRequest, clean_db: Path, once_trained: dict[str, Any]) -> dict[str, Any]:
    """Imported histories and a quick model in use; returns the training's result."""
    if not once_trained:
        request.getfixturevalue("imported")
        once_trained.update(run(train, data="database", preset="quick"))
        rows.keep("trained")
    else:
        redis_client.cache_clear()
        assert rows.restore("trained")
    return dict(once_trained)


@pytest.fixture
def server(clean_db: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AniList]:
    """AniList, as the workers of this test find it."""
    state = AniList(
        lists={
            "spike": [entry(n, completed=(2020, n, 1)) for n in (3, 1, 2)] + [entry(4, "PLANNING")],
            "faye": [entry(2, completed=(2021, 1, 1)), entry(9, "CURRENT", mal=None)],
            "jet": [entry(3, "CURRENT", updated=time.time() - HALF_LIFE.total_seconds())],
            "ed": [],
        },
        private={"shy"},
        media={n: medium(n) for n in (1, 2, 3, 4)},  # 9 was deleted
        largest_chunk=2,
        largest_page=2,
    )
    redis_client.cache_clear()
    with serving(state):
        monkeypatch.setenv("GRISTMILL_ANILIST_URL", state.url)
        monkeypatch.setenv("GRISTMILL_ANILIST_PER_MINUTE", "600000")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        settings.cache_clear()
        yield state
    settings.cache_clear()
