"""Which models moved into and out of the memory of workers, for which jobs, and how long that took."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base
from db.ledger import Executor

Event = Literal["load", "restore", "offload", "drop"]


class ModelEvent(Base):
    """One model, loaded, moved to host memory, moved back, or dropped, in one process of a worker."""

    __tablename__ = "model_event"
    __table_args__ = (
        Index("model_event_job", "job_id"),
        Index("model_event_parent", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
        Index("model_event_root", "root_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("clock_timestamp()"))
    job_id: Mapped[UUID]  # in whose time it happened
    parent_id: Mapped[UUID | None]
    root_id: Mapped[UUID]
    worker: Mapped[str | None]
    process: Mapped[int]
    model: Mapped[str]
    event: Mapped[str]
    seconds: Mapped[float]
    bytes: Mapped[int] = mapped_column(BigInteger)  # what the model declares to need


_RECORD = text("""
    INSERT INTO model_event (job_id, parent_id, root_id, worker, process, model, event, seconds, bytes)
    SELECT id, parent_id, coalesce(root_id, id), worker, :process, :model, :event, :seconds, :bytes
    FROM job WHERE id = :job_id""")

# A switch: what comes in after something else had to go, in the same process. Loading into free room is none.
_SUMMARY = text("""
    SELECT model, count(*) FILTER (WHERE event = 'load') AS loads,
           count(*) FILTER (WHERE event = 'restore') AS restores,
           count(*) FILTER (WHERE event = 'offload') AS offloads, count(*) FILTER (WHERE event = 'drop') AS drops,
           count(*) FILTER (WHERE event IN ('load', 'restore') AND before IN ('offload', 'drop')) AS switches,
           coalesce(sum(bytes) FILTER (WHERE event <> 'drop'), 0)::bigint AS bytes_moved,
           coalesce(sum(seconds) FILTER (WHERE event IN ('load', 'restore')), 0)::float8 AS load_s
    FROM (SELECT *, lag(event) OVER (PARTITION BY worker, process ORDER BY id) AS before FROM model_event
          WHERE job_id = ANY(:jobs) OR parent_id = ANY(:jobs) OR root_id = ANY(:jobs)) AS events
    GROUP BY model ORDER BY min(id)""")


def record(on: Executor, job_id: UUID, process: int, model: str, event: Event, seconds: float, size: int) -> None:
    """A model moved while this job ran; nothing is written for a job that is not in the ledger."""
    values = {"job_id": job_id, "process": process, "model": model, "event": event, "seconds": seconds, "bytes": size}
    on.execute(_RECORD, values)


def summary(on: Executor, jobs: Iterable[UUID | str]) -> dict[str, Any]:
    """What moved while these jobs, their children, or jobs that they are the first of, ran.

    {"loads", "restores", "offloads", "drops", "switches", "bytes_moved", "load_s", "models": {name: the same}}: loads
    are from disk, restores from host memory, load_s the seconds of both; drops move nothing. A switch is a model that
    came in after another one had to go, in the same process.
    """
    rows = on.execute(_SUMMARY, {"jobs": [UUID(str(each)) for each in jobs]}).mappings()
    models = {row["model"]: {name: value for name, value in row.items() if name != "model"} for row in rows}
    names = ("loads", "restores", "offloads", "drops", "switches", "bytes_moved", "load_s")
    return {name: sum(each[name] for each in models.values()) for name in names} | {"models": models}
