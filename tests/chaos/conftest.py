"""Fixtures for the chaos suite: servers of its own, the size of a run, and the table of promises at its end.

Each test shows one promise with real processes and seeds. `bin/test tests/chaos --full` runs them at full size.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import JOBS

FIGURES = pytest.StashKey[dict[int, list[str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash.get(FIGURES, {})
    if figures:
        terminalreporter.section("promises")
    for number, said in sorted(figures.items()):
        for line in said:
            terminalreporter.write_line(f"{number:3}  {line}")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[int, str], None]:
    """Keep a promise's figure for the table at the end of the run."""
    figures = request.config.stash[FIGURES]
    return lambda promise, text: figures.setdefault(promise, []).append(text)


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether to run at full size."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def durable() -> bool:
    """As in production."""
    return True


@pytest.fixture(scope="session", autouse=True)
def declared_jobs() -> Iterator[None]:
    """This process knows the tests' jobs as its workers do."""
    before = os.environ.get("GRISTMILL_JOBS")
    os.environ["GRISTMILL_JOBS"] = JOBS
    yield
    if before is None:
        del os.environ["GRISTMILL_JOBS"]
    else:
        os.environ["GRISTMILL_JOBS"] = before


@pytest.fixture
def quiet(clean_db: Path) -> Path:
    """Empty servers that no worker or relay listens to; the home they run under."""
    return clean_db
