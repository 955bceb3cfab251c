"""The process's connection pools to Postgres, made on first use and again after a fork."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.orm import Session

from db.settings import settings

# A machine that is cut off takes no leave. libpq waits 15 minutes for what it sent to be acknowledged, and Postgres two
# hours for a silent client, whose row locks would keep the relay from its jobs. The URL's own options go before these.
REACH = {
    "connect_timeout": 5,
    "keepalives_idle": 10,  # s of silence, then probes
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # ms that anything sent may stay unacknowledged
}
_REACH_OF_SERVER = """
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = 20000"""
# A plan that was made is kept until the table is analysed again. Made while that had a few pages, it reads all of them;
# it did so until a minute after 200,000 jobs had come, for 100 to 300 ms a statement instead of 2. So what runs alone
# finds its rows by an index, however few there are; in transactions, where people read whole tables as well, statements
# are planned each time, which would double what the statements of a job alone cost Postgres. Without an index to use, a
# statement looks costly enough to be compiled, before Postgres 18: that takes far longer than to run it.
_BY_INDEX = "SET enable_seqscan = off; SET jit = off"
_PLANNED_ANEW = "SET plan_cache_mode = force_custom_plan"
# A server may also hang while its machine acknowledges everything. The ledger's statements take milliseconds, the
# largest submission seconds; a caller's own transactions may take what they like.
ANSWER_S = 60.0

_engines: dict[bool, Engine] = {}
_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())")


def engine(*, autocommit: bool = False) -> Engine:
    """The engine of this process. Its pool grows by use: a worker's child runs one job at a time, but the threads of a
    web app read at once, and a connection beyond the pool's size is closed when it is given back.

    Autocommit has an engine of its own: switching a shared connection to and fro cost a third of a ledger statement.
    """
    if autocommit not in _engines:
        url = _url()
        made = create_engine(
            url,
            isolation_level="AUTOCOMMIT" if autocommit else "READ COMMITTED",
            pool_reset_on_return=None if autocommit else "rollback",  # there is nothing to roll back
            pool_size=20 if autocommit else 5,
            max_overflow=35 if autocommit else 10,  # each thread that waits for a result listens on one
            pool_use_lifo=True,  # the one last used has its statements planned, and its pages at hand
            pool_pre_ping=False,  # a round trip on every checkout: see _refuse_dead
            pool_recycle=1800,
            hide_parameters=True,  # an error would quote the parameters of jobs in logs
            connect_args={
                name: value
                for name, value in {**REACH, "application_name": "gristmill"}.items()
                if name not in url.query
            },
        )
        of, planned = (_Impatient, _BY_INDEX) if autocommit else (psycopg.Connection, _PLANNED_ANEW)
        event.listen(made, "do_connect", partial(_connect, of, planned))
        event.listen(made, "checkout", _refuse_dead)
        _engines[autocommit] = made
    return _engines[autocommit]


@cache
def _url() -> URL:
    """Known once for both engines: the second may be made while the embedded Postgres is away."""
    return make_url(settings().postgres_url())


class _Impatient(psycopg.Connection[Any]):
    """A connection that is given up when an answer stays away too long."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """See psycopg."""
        try:
            return super().wait(gen, interval, ANSWER_S if timeout is None else timeout)
        except psycopg.OperationalError:
            if timeout is not None or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()  # what it still answers must not reach the next statement
            raise psycopg.OperationalError(f"Postgres has not answered for {ANSWER_S:g} s") from None


def _connect(
    of: type[psycopg.Connection[Any]], planned: str, _dialect: object, _record: object, args: Any, options: Any
) -> Any:
    """Both ends of the connection notice when the other is lost.

    The server's settings are said in a statement, since PgBouncer knows no such startup parameters.
    """
    connection = of.connect(*args, **options, autocommit=True)
    connection.execute(f"{_REACH_OF_SERVER}; {planned}")
    connection.autocommit = False
    return connection


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


def clock(on: Connection) -> float:
    """The time of day at Postgres, which all machines share, in seconds."""
    return float(on.execute(_CLOCK).scalar_one())


def dispose() -> None:
    """Close the pools; the next use opens new ones (after a settings change, and at a process's end)."""
    _url.cache_clear()
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
def snapshot() -> Iterator[Session]:
    """A transaction whose statements all see the moment of the first: what is read in several belongs together."""
    with session() as opened:
        opened.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        yield opened


@contextmanager
def autocommit() -> Iterator[Connection]:
    """A connection on which each statement is its own transaction, in one round trip."""
    with engine(autocommit=True).connect() as connection:
        yield connection


@contextmanager
def bare_cursor() -> Iterator[psycopg.Cursor[Any]]:
    """A cursor of the driver's own, each statement its own transaction, for what a web app reads at every request.

    SQLAlchemy was four fifths of the processor time of a look-up by primary key. Its errors are raised here as well, so
    that nobody has to know the difference; a connection that was lost is not given out again.
    """
    try:
        connection = engine(autocommit=True).raw_connection()
        try:
            driver: Any = connection.driver_connection
            with driver.cursor() as cursor:
                yield cursor
        finally:
            connection.close()  # back into the pool
    except psycopg.Error as error:
        raise DBAPIError.instance("", None, error, psycopg.Error, hide_parameters=True) from error
