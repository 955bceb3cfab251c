"""The table of jobs, the history of their transitions, and the barriers that wait for several of them."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base
from db.state import PENDING

_LIVE_SQL = "state IN ('PENDING', 'STARTED', 'RETRY')"
_WAITING_SQL = "state IN ('PENDING', 'RETRY')"
_timestamp = DateTime(timezone=True)


class Job(Base):
    """One job: the truth about it. The message in Redis is only a nudge that names this row.

    `attempt` counts the claims and is the fence that every later write names; `spared` of them are not
    charged (given back at a shutdown, or ended to wait for children), so attempt - spared <= max_attempts.
    """

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint("state IN ('PENDING','STARTED','RETRY','SUCCESS','FAILURE','REVOKED')", "job_state"),
        # The same work is live once: this index is what makes `key` unique among live jobs.
        Index("job_live_key", "key", unique=True, postgresql_where=text(f"key IS NOT NULL AND {_LIVE_SQL}")),
        Index("job_unsent", "run_at", postgresql_where=text(f"{_WAITING_SQL} AND sent_at IS NULL AND lane IS NULL")),
        Index("job_held", "queue", "lane", "priority", "run_at",
              postgresql_where=text(f"{_WAITING_SQL} AND sent_at IS NULL AND lane IS NOT NULL")),
        Index("job_lane", "queue", "lane", "priority",
              postgresql_where=text(f"{_WAITING_SQL} AND sent_at IS NOT NULL AND lane IS NOT NULL")),
        Index("job_batch", "batch", "queue", "priority", "run_at",
              postgresql_where=text("state = 'PENDING' AND batch IS NOT NULL")),
        Index("job_leader", "leader_id", postgresql_where=text("state = 'STARTED' AND leader_id IS NOT NULL")),
        Index("job_sent", "queue", "sent_at", postgresql_where=text(f"{_WAITING_SQL} AND sent_at IS NOT NULL")),
        Index("job_expires", "expires_at", postgresql_where=text(f"{_WAITING_SQL} AND expires_at IS NOT NULL")),
        Index("job_lease", "lease_until", postgresql_where=text("state = 'STARTED'")),
        Index("job_group", "group_id", postgresql_where=text("group_id IS NOT NULL")),
        Index("job_unfollowed", "id", postgresql_where=text(
            "canvas IS NOT NULL AND followed_at IS NULL AND state IN ('SUCCESS','FAILURE','REVOKED')")),
        Index("job_created", "created_at"),
    )  # fmt: skip

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    queue: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    params: Mapped[dict[str, Any]] = mapped_column(JSONB)
    key: Mapped[str | None]
    owner: Mapped[str | None]  # whose share of a queue the job takes: see db.outbox
    batch: Mapped[str | None]  # jobs with the same one may run in one batch: see db.batch
    lane: Mapped[str | None]  # the owner, else the batch: of a lane only so many are in Redis at once

    state: Mapped[str] = mapped_column(server_default=PENDING)
    created_at: Mapped[datetime] = mapped_column(_timestamp, server_default=text("now()"))
    run_at: Mapped[datetime] = mapped_column(_timestamp, server_default=text("now()"))
    sent_at: Mapped[datetime | None] = mapped_column(_timestamp)
    expires_at: Mapped[datetime | None] = mapped_column(_timestamp)
    started_at: Mapped[datetime | None] = mapped_column(_timestamp)
    finished_at: Mapped[datetime | None] = mapped_column(_timestamp)

    attempt: Mapped[int] = mapped_column(server_default="0")
    spared: Mapped[int] = mapped_column(server_default="0")
    max_attempts: Mapped[int]
    backoff_s: Mapped[float]
    time_limit_s: Mapped[float | None]

    worker: Mapped[str | None]
    leader_id: Mapped[uuid.UUID | None]  # the job whose process ran this one in a batch
    lease_until: Mapped[datetime | None] = mapped_column(_timestamp)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(_timestamp)

    progress: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    result: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    notes: Mapped[dict[str, Any] | None] = mapped_column(JSONB)  # what the run met and settled by itself

    # Lineage: the job that submitted this one, the first of them, and the group it belongs to.
    parent_id: Mapped[uuid.UUID | None]
    root_id: Mapped[uuid.UUID | None]
    group_id: Mapped[uuid.UUID | None]
    group_index: Mapped[int | None]
    # What Celery's canvas wants done after it: {"chain": […], "link": […], "link_error": […]}.
    canvas: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    followed_at: Mapped[datetime | None] = mapped_column(_timestamp)


class JobEvent(Base):
    """One transition of one job, written by a trigger: nobody has to remember to."""

    __tablename__ = "job_event"
    __table_args__ = (
        Index("job_event_job", "job_id", "id"),
        Index("job_event_at", "at", postgresql_using="brin"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[uuid.UUID]  # no foreign key: its check would cost a row lock on every transition
    at: Mapped[datetime] = mapped_column(_timestamp, server_default=text("clock_timestamp()"))
    from_state: Mapped[str | None]
    to_state: Mapped[str]
    attempt: Mapped[int]
    worker: Mapped[str | None]
    error: Mapped[str | None]
    cause: Mapped[str | None]  # the error's type; of an attempt that was not charged "GivenBack" or "Suspended"
    took_s: Mapped[float | None]  # how long it had waited since it was due, or how long it had run


class Barrier(Base):
    """Waits for `size` jobs of a group to be final, then acts once.

    It resumes `parent_id` (a fan-out), or submits `body` (the body of a Celery chord).
    """

    __tablename__ = "barrier"
    __table_args__ = (
        Index("barrier_open", "group_id", postgresql_where=text("released_at IS NULL")),
        Index("barrier_parent", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
    )

    group_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    size: Mapped[int]
    parent_id: Mapped[uuid.UUID | None]
    body: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(_timestamp, server_default=text("now()"))
    released_at: Mapped[datetime | None] = mapped_column(_timestamp)
