"""Waiting for a job without polling: a trigger notifies the job's own channel when it is final."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from db.engine import autocommit

# LISTEN does not pass through a transaction-pooling proxy, and a connection may die quietly: look again this often.
RECHECK_S = 2.0
OUTAGE_S = 600.0  # how long Postgres may be away while somebody waits: as long as a worker keeps a result for it
RECONNECT_S = 0.5

_STATE = text("SELECT state IN ('SUCCESS', 'FAILURE', 'REVOKED') FROM job WHERE id = :id")


def until_final(job_id: UUID, timeout: float | None = None, *, look_every_s: float = RECHECK_S) -> Iterator[None]:
    """Return when the job is final; yields whenever it has looked in vain. Raises TimeoutError after `timeout` s.

    Goes on over a restart of Postgres; raises SQLAlchemy's OperationalError when it stays away.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    heard_at: float | None = None
    while True:
        try:
            with autocommit() as connection, _listening(connection, job_id) as raw:
                while not connection.execute(_STATE, {"id": job_id}).scalar():
                    heard_at = time.monotonic()
                    left = look_every_s if deadline is None else min(look_every_s, deadline - heard_at)
                    if left <= 0:
                        raise TimeoutError(f"job {job_id} was not final within {timeout:g} s")
                    for _ in raw.notifies(timeout=left, stop_after=1):
                        pass
                    yield
                return
        except (OperationalError, psycopg.OperationalError):
            now = time.monotonic()
            if heard_at is None or now - heard_at > OUTAGE_S or (deadline is not None and now >= deadline):
                raise
            time.sleep(RECONNECT_S)


@contextmanager
def _listening(connection: Connection, job_id: UUID) -> Iterator[psycopg.Connection[Any]]:
    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    channel = f"job_{job_id.hex}"
    connection.exec_driver_sql(f"LISTEN {channel}")
    try:
        yield raw
    finally:
        if raw.closed or connection.invalidated:  # lost: the pool must not keep it, and nothing can be said on it
            connection.invalidate()
        else:
            connection.exec_driver_sql(f"UNLISTEN {channel}")
