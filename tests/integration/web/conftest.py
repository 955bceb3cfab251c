"""The web door in this process, over real servers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests import jobs  # noqa: F401  # declared before the door is first asked for kinds, whichever tests are run
from web.app import create
from web.settings import Settings

Open = Callable[..., TestClient]


@pytest.fixture(scope="session")
def doors(services: Path) -> Iterator[Open]:
    """The door with these settings, opened once for all tests: `doors(web_auth="on")`."""
    opened: dict[tuple[tuple[str, Any], ...], TestClient] = {}
    with ExitStack() as stack:

        def make(**given: Any) -> TestClient:
            if (key := tuple(sorted(given.items()))) not in opened:
                app = create(Settings(**given))
                client = TestClient(app, base_url="http://localhost:8004", raise_server_exceptions=False)
                opened[key] = stack.enter_context(client)
            return opened[key]

        yield make


@pytest.fixture
def door(clean_db: Path, doors: Open) -> Open:
    """The same over an empty ledger."""
    return doors


@pytest.fixture
def client(door: Open) -> TestClient:
    """An open door on the loopback address."""
    return door()
