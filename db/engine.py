"""The process's connection pools to Postgres, made on first use and again after a fork."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session

from db.settings import settings

_engines: dict[bool, Engine] = {}


def engine(*, autocommit: bool = False) -> Engine:
    """The engine of this process. The pools are small: a worker's child runs one job at a time.

    Autocommit has an engine of its own: switching a shared connection to and fro cost a third of a ledger statement.
    """
    if autocommit not in _engines:
        made = create_engine(
            settings().postgres_url(),
            isolation_level="AUTOCOMMIT" if autocommit else "READ COMMITTED",
            pool_reset_on_return=None if autocommit else "rollback",  # there is nothing to roll back
            pool_size=5,
            max_overflow=50 if autocommit else 10,  # each thread that waits for a result listens on one
            pool_pre_ping=False,  # a round trip on every checkout: see _refuse_dead
            pool_recycle=1800,
            connect_args={"connect_timeout": 5, "application_name": "gristmill"},
        )
        event.listen(made, "checkout", _refuse_dead)
        _engines[autocommit] = made
    return _engines[autocommit]


def _refuse_dead(connection: Any, record: object, proxy: object) -> None:
    """An idle connection that has something to read was closed by Postgres: the pool then makes a new one.

    So a restart of Postgres costs nobody an error who was not in the middle of a statement, without a round trip.
    """
    if connection.closed:
        raise DisconnectionError
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError


def dispose() -> None:
    """Close the pools; the next use opens new ones (after a settings change, and at a process's end)."""
    while _engines:
        _engines.popitem()[1].dispose()


def _forget_after_fork() -> None:
    """A forked child must not share its parent's sockets, nor close them."""
    while _engines:
        _engines.popitem()[1].dispose(close=False)


os.register_at_fork(after_in_child=_forget_after_fork)


@contextmanager
def session() -> Iterator[Session]:
    """A transaction: committed when the block ends, rolled back when it raises."""
    with Session(engine(), expire_on_commit=False) as opened, opened.begin():
        yield opened


@contextmanager
def autocommit() -> Iterator[Connection]:
    """A connection on which each statement is its own transaction, in one round trip."""
    with engine(autocommit=True).connect() as connection:
        yield connection
