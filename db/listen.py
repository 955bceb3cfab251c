"""Waiting for a job without polling: a trigger notifies the job's own channel when it is final."""

import time
from collections.abc import Iterator
from uuid import UUID

from sqlalchemy import text

from db.engine import autocommit

# LISTEN does not pass through a transaction-pooling proxy, and a connection may die quietly: look again this often.
RECHECK_S = 2.0

_STATE = text("SELECT state IN ('SUCCESS', 'FAILURE', 'REVOKED') FROM job WHERE id = :id")


def until_final(job_id: UUID, timeout: float | None = None, *, look_every_s: float = RECHECK_S) -> Iterator[None]:
    """Return when the job is final; yields whenever it has looked in vain. Raises TimeoutError after `timeout` s."""
    deadline = None if timeout is None else time.monotonic() + timeout
    with autocommit() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        channel = f"job_{job_id.hex}"
        connection.exec_driver_sql(f"LISTEN {channel}")
        try:
            while not connection.execute(_STATE, {"id": job_id}).scalar():
                left = look_every_s if deadline is None else min(look_every_s, deadline - time.monotonic())
                if left <= 0:
                    raise TimeoutError(f"job {job_id} was not final within {timeout:g} s")
                for _ in raw.notifies(timeout=left, stop_after=1):
                    pass
                yield
        finally:
            connection.exec_driver_sql(f"UNLISTEN {channel}")
