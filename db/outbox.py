"""Which jobs' messages are still to be handed to Redis, which were, and the nudges that say so."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text

from db.ledger import Executor


@dataclass(frozen=True, slots=True)
class Nudge:
    """What a message in Redis says: which job, of what kind, on which queue."""

    id: UUID
    kind: str
    queue: str
    priority: int
    params: dict[str, Any] = field(default_factory=dict)
    time_limit_s: float | None = None
    root_id: UUID | None = None
    parent_id: UUID | None = None


_UNSEND = text("""
    UPDATE job SET sent_at = NULL WHERE id = ANY(:ids) AND state IN ('PENDING', 'RETRY')""")

_DUE = text("""
    UPDATE job SET sent_at = clock_timestamp()
    WHERE id IN (SELECT id FROM job WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND run_at <= now()
                 ORDER BY run_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id, kind, queue, priority, params, time_limit_s, root_id, parent_id""")

_SENT_COUNTS = text("""
    SELECT queue, count(*) FROM job
    WHERE state IN ('PENDING', 'RETRY') AND sent_at < now() - make_interval(secs => :older_s) GROUP BY queue""")

_SENT_IDS = text("""
    SELECT id FROM job WHERE state IN ('PENDING', 'RETRY') AND queue = :queue
      AND sent_at < now() - make_interval(secs => :older_s)""")


def unsend(on: Executor, ids: Iterable[UUID]) -> None:
    """The messages of these jobs did not reach Redis: the relay will send them."""
    on.execute(_UNSEND, {"ids": list(ids)})


def take_due(on: Executor, limit: int) -> list[Nudge]:
    """Mark due, unsent jobs as sent and return their nudges; the caller hands them to Redis or calls `unsend`."""
    return [Nudge(*row) for row in on.execute(_DUE, {"limit": limit})]


def sent_counts(on: Executor, older_s: float) -> dict[str, int]:
    """How many jobs of each queue were sent more than `older_s` seconds ago and not claimed."""
    return {row[0]: row[1] for row in on.execute(_SENT_COUNTS, {"older_s": older_s})}


def sent_ids(on: Executor, queue: str, older_s: float) -> set[UUID]:
    """Which jobs of a queue were sent more than `older_s` seconds ago and not claimed."""
    return set(on.execute(_SENT_IDS, {"queue": queue, "older_s": older_s}).scalars())
