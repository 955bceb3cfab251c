"""Fixtures for every test: a home folder for the run, and real servers for the tests that ask for them."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leftovers

HOME = pytest.StashKey[Path]()

# One thread for tests, and for the workers that they start: several runs share the cores, and OpenMP's threads wait for
# each other busily, so that with two of them tiny models took three times the processor time.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="tests/chaos at full size: more kills, longer outages")
    parser.addoption("--screenshots", metavar="FOLDER", help="tests/acceptance/test_browser.py: pictures of every page")


def pytest_configure(config: pytest.Config) -> None:
    """Point this process at a fresh home before any module of ours reads its settings.

    A developer's own GRISTMILL_* variables must not lead the tests to a database that matters.
    """
    for name in [name for name in os.environ if name.startswith("GRISTMILL_")]:
        del os.environ[name]
    os.environ.update(dict.fromkeys(THREADS, "1"))
    leftovers.sweep()
    config.stash[HOME] = Path(tempfile.mkdtemp(prefix=leftovers.PREFIX))
    leftovers.claim(config.stash[HOME])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped run tears its fixtures down too
    os.environ["GRISTMILL_HOME"] = str(config.stash[HOME])


def pytest_unconfigure(config: pytest.Config) -> None:
    home = config.stash.get(HOME, None)
    if home is not None:
        leftovers.end(home)


@pytest.fixture(scope="session")
def durable() -> bool:
    """Whether the tests' Postgres waits for the disk: what it loses without is only what a machine's end would take."""
    return False


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest, durable: bool) -> Iterator[Path]:
    """Real PostgreSQL and Redis, migrated; yields the home folder that they run under."""
    from tests import rows
    from workers.up import start_servers, stop_servers

    try:
        start_servers(say=lambda _: None)
        if not durable:
            rows.wait_for_no_disk()
        yield request.config.stash[HOME]
    finally:
        stop_servers()


@pytest.fixture
def clean_db(services: Path) -> Path:
    """The same servers with no rows and no keys."""
    from tests import rows

    rows.wipe()
    return services
