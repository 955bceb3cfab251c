"""Fixtures for tests with running workers: one worker of two processes and a relay serve the whole session."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import JOBS, Process, start_relay, start_worker


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with the session's worker come last: once it runs, it takes any job that another test submits."""
    items.sort(key=lambda item: "worker" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def declared_jobs() -> None:
    """This process knows the tests' jobs as its workers do."""
    os.environ["GRISTMILL_JOBS"] = JOBS


@pytest.fixture(scope="session")
def relay(services: Path) -> Iterator[Process]:
    process = start_relay(services)
    yield process
    process.stop()


@pytest.fixture(scope="session")
def cpu_worker(services: Path, relay: Process) -> Iterator[Process]:
    process = start_worker(services, GRISTMILL_CANCEL_GRACE_SECONDS="1", GRISTMILL_LEASE_SECONDS="8")
    yield process
    process.stop()


@pytest.fixture
def worker(clean_db: Path, cpu_worker: Process) -> Process:
    """A running worker and relay over an empty ledger and an empty Redis."""
    return cpu_worker
