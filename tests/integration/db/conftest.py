"""Fixtures for tests of the ledger's statements."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from db.engine import autocommit


@pytest.fixture
def on(clean_db: object) -> Iterator[Connection]:
    with autocommit() as connection:
        # What would wait for ever fails the test instead.
        connection.execute(text("SET statement_timeout = '5s'"))
        yield connection
        connection.execute(text("RESET statement_timeout"))
