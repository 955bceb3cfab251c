"""Forgetting final jobs of a kind, with their history, when they are old enough: predictions come by the million.

What metrics count of the history is kept as sums: a counter that fell would be a sudden rise to Prometheus.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Connection, Identity, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base
from db.history import KEYS, OF_EVENTS, SUMS

MOST = 5000  # jobs of one statement: a second or so


class ForgottenEvents(Base):
    """Transitions of jobs that were deleted, added up as db.history does."""

    __tablename__ = "forgotten_events"
    __table_args__ = (Index("forgotten_events_last", "last_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    last_id: Mapped[int] = mapped_column(BigInteger)  # of job_event, the greatest among them
    kind: Mapped[str]
    queue: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    from_state: Mapped[str | None]
    to_state: Mapped[str]
    cause: Mapped[str | None]
    events: Mapped[int] = mapped_column(BigInteger)
    timed: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float]
    within: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))  # for each of db.history.BOUNDS_S


# Somebody may yet read a job's result: a parent that is live, a fan-out or chord that is open, what a canvas wants done
# after it. The oldest first, by the index on created_at; `after` is where the statement before came to,
# among jobs that may have been submitted at the same moment.
_FORGET = text(f"""
    WITH old AS (
        SELECT id, created_at FROM job
        WHERE kind = :kind AND created_at >= :after AND created_at < now() - make_interval(secs => :older_s)
          AND state IN ('SUCCESS', 'FAILURE', 'REVOKED')
          AND coalesce(finished_at, created_at) < now() - make_interval(secs => :older_s)
          AND (canvas IS NULL OR followed_at IS NOT NULL)
          AND NOT EXISTS (SELECT 1 FROM job live WHERE live.id IN (job.parent_id, job.root_id)
                          AND live.state IN ('PENDING', 'STARTED', 'RETRY'))
          AND NOT EXISTS (SELECT 1 FROM barrier WHERE barrier.group_id = job.group_id AND released_at IS NULL)
        ORDER BY created_at LIMIT :most),
    gone AS (DELETE FROM job USING old WHERE job.id = old.id
             RETURNING job.id, job.created_at, kind, queue, priority),
    past AS (DELETE FROM job_event e USING gone WHERE e.job_id = gone.id
             RETURNING e.id, kind, queue, priority, from_state, to_state, cause, took_s),
    sums AS (SELECT max(id) AS last_id, {KEYS}, {OF_EVENTS} FROM past GROUP BY {KEYS}),
    kept AS (INSERT INTO forgotten_events (last_id, {KEYS}, events, timed, seconds, within)
             SELECT last_id, {KEYS}, events, timed, seconds, ARRAY[{", ".join(SUMS[3:])}] FROM sums)
    SELECT count(*), max(created_at) FROM gone""")

BEGINNING = datetime.min


def forget(on: Connection, kind: str, older_s: float, after: datetime = BEGINNING) -> tuple[int, datetime | None]:
    """Delete up to MOST that ended longer ago; returns how many, and the `after` of the next call, None after the
    last."""
    values = {"kind": kind, "older_s": older_s, "after": after, "most": MOST}
    count, last = on.execute(_FORGET, values).one()
    return count, last if count == MOST else None
