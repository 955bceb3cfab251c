"""Jobs that moved lately, as they stand: what a monitor needs that hears of some moves and not of others."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from db.ledger import Executor

_SHOWN = 1024  # characters of a text, as in the messages (broker/message.py)
_OVERLAP = 200  # events are numbered before their transactions commit: as many are looked at again

# By the history's primary key, so that it costs what has happened since and not what there is. Submissions have no
# worker yet: a million of them must not hide what the workers did.
_MOVED = text(f"""
    WITH moved AS (SELECT id, job_id FROM job_event WHERE id > :after AND worker IS NOT NULL ORDER BY id DESC
                   LIMIT :most)
    SELECT last.id AS event_id, job.id, kind, job.worker, state, job.attempt, started_at, finished_at, parent_id,
           root_id, left(params::text, {_SHOWN}) AS params, left(result::text, {_SHOWN}) AS result,
           left(job.error->>'type', {_SHOWN}) AS error, left(job.error->>'message', {_SHOWN}) AS message,
           right(job.error->>'traceback', {4 * _SHOWN}) AS traceback, at
    FROM (SELECT job_id, max(id) AS id FROM moved GROUP BY job_id) AS last
    JOIN job_event ON job_event.id = last.id JOIN job ON job.id = last.job_id
    WHERE job.worker IS NOT NULL AND started_at IS NOT NULL ORDER BY last.id""")


@dataclass(frozen=True, slots=True)
class Moved:
    """A job that a worker has had, its texts cut to what is shown."""

    event_id: int
    id: UUID
    kind: str
    worker: str
    state: str
    attempt: int
    started_at: datetime
    finished_at: datetime | None
    parent_id: UUID | None
    root_id: UUID | None
    params: str
    result: str | None
    error: str | None  # the type of the last one
    message: str | None
    traceback: str | None
    at: datetime  # of its last move


def moved(on: Executor, after: int, most: int) -> list[Moved]:
    """Jobs that moved behind this event (0: at all), in the order of their last moves; of many the latest.

    The event_id of the last one is what to ask behind next time. The few moves before `after` are told again.
    """
    rows: Any = on.execute(_MOVED, {"after": max(0, after - _OVERLAP), "most": most}).mappings()
    return [Moved(**row) for row in rows]
