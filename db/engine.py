"""The process's one connection pool to Postgres, made on first use and again after a fork."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.orm import Session

from db.settings import settings

_engine: Engine | None = None


def engine() -> Engine:
    """The engine of this process. The pool is small: a worker's child runs one job at a time."""
    global _engine
    if _engine is None:
        _engine = create_engine(
            settings().postgres_url(),
            pool_size=5,
            max_overflow=10,
            pool_pre_ping=False,  # a round trip on every checkout; a dead connection is retried by its caller
            pool_recycle=1800,
            connect_args={"connect_timeout": 5, "application_name": "gristmill"},
        )
    return _engine


def dispose() -> None:
    """Close the pool; the next use opens a new one (after a settings change, and at a process's end)."""
    global _engine
    if _engine is not None:
        _engine.dispose()
        _engine = None


def _forget_after_fork() -> None:
    """A forked child must not share its parent's sockets, nor close them."""
    global _engine
    if _engine is not None:
        _engine.dispose(close=False)
        _engine = None


os.register_at_fork(after_in_child=_forget_after_fork)


@contextmanager
def session() -> Iterator[Session]:
    """A transaction: committed when the block ends, rolled back when it raises."""
    with Session(engine(), expire_on_commit=False) as opened, opened.begin():
        yield opened


@contextmanager
def autocommit() -> Iterator[Connection]:
    """A connection on which each statement is its own transaction, in one round trip."""
    with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection
