"""Which jobs' messages are still to be handed to Redis, which were, and the nudges that say so.

A job without a lane is sent when it is due. Of a lane (an owner's jobs on a queue at a priority) at most so many are in
Redis and not yet claimed, the others are held back in the ledger, and each claim lets the next one go. So whoever
submits ten thousand jobs is ahead of another owner's one job by the window, not by ten thousand.
Jobs without an owner that may run in one batch share a lane as well: whoever gets the message of one claims others with
it, and what was held back has no message that would then find nothing to claim.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from sqlalchemy import CursorResult, text

from db.ledger import BATCH_WINDOW, Executor, Lane, picked

# Jobs whose lost messages one statement makes due again: of 300,000 it took half a minute, and is given up after one.
MOST = 10_000


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
    begun: bool = False  # it had its turn and lost its worker: it goes before those that wait for theirs


_UNSEND = text(f"""
    UPDATE job SET sent_at = NULL WHERE {picked("id = ANY(:ids) AND state IN ('PENDING', 'RETRY')")}""")

_NUDGE = "id, kind, queue, priority, params, time_limit_s, root_id, parent_id, attempt > 0"

_UNSENT = "state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND lane IS NULL AND run_at <= now()"
_DUE = text(f"""
    UPDATE job SET sent_at = clock_timestamp()
    WHERE {picked(_UNSENT, "ORDER BY run_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED")}
    RETURNING {_NUDGE}""")

_WAITING = "state IN ('PENDING', 'RETRY') AND lane IS NOT NULL"


def _let_go(lanes: str) -> str:
    """What may go of these lanes: a common table expression of queue, lane, priority, and how many may be in Redis.

    The next ones are found first and locked then: what another statement is sending now does not count as sent yet,
    and passing over it to those behind it would send as many again.
    """
    return f"""
    UPDATE job SET sent_at = clock_timestamp()
    WHERE id = ANY(ARRAY(SELECT next.id FROM ({lanes}) AS lane CROSS JOIN LATERAL (
        SELECT id FROM job WHERE {_WAITING} AND sent_at IS NULL AND id = ANY(ARRAY(
            SELECT id FROM job WHERE (queue, lane, priority) = (lane.queue, lane.lane, lane.priority)
              AND {_WAITING} AND sent_at IS NULL AND run_at <= now()
            ORDER BY run_at LIMIT greatest(0, lane.most - (
                SELECT count(*) FROM job WHERE (queue, lane, priority) = (lane.queue, lane.lane, lane.priority)
                  AND {_WAITING} AND sent_at IS NOT NULL))))
        FOR NO KEY UPDATE SKIP LOCKED) AS next))
    RETURNING {_NUDGE}"""


_LANE = text(_let_go("""
    SELECT CAST(:queue AS varchar) AS queue, CAST(:lane AS varchar) AS lane, CAST(:priority AS smallint) AS priority,
           CAST(:window AS integer) AS most
"""))  # fmt: skip

# From one lane to the next in the index, however many jobs each holds.
_NEXT_LANE = f"SELECT queue, lane, priority, owner IS NULL AS shared FROM job WHERE {_WAITING} AND sent_at IS NULL"
_LANES = text(_let_go(f"""
    WITH RECURSIVE lanes AS (
        ({_NEXT_LANE} ORDER BY queue, lane, priority LIMIT 1)
        UNION ALL SELECT further.* FROM lanes CROSS JOIN LATERAL (
            {_NEXT_LANE} AND (queue, lane, priority) > (lanes.queue, lanes.lane, lanes.priority)
            ORDER BY queue, lane, priority LIMIT 1) AS further)
    SELECT queue, lane, priority, CASE WHEN shared THEN {BATCH_WINDOW} ELSE :window END AS most FROM lanes
"""))  # fmt: skip

# A list in Redis is served in the order of sending, but for jobs that had begun before, and what a batch took along.
_OVERTAKEN = text("""
    UPDATE job SET sent_at = NULL
    WHERE id = ANY(ARRAY(
        SELECT job.id
        FROM (SELECT queue, priority, max(sent_at) AS sent_at FROM job WHERE state = 'STARTED' AND attempt = 1
                AND leader_id IS NULL GROUP BY queue, priority) AS running
        JOIN job ON job.queue = running.queue AND job.priority = running.priority AND job.state IN ('PENDING', 'RETRY')
            AND job.sent_at < running.sent_at - make_interval(secs => :older_s)
        LIMIT :limit FOR NO KEY UPDATE OF job SKIP LOCKED))""")

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


def let_go(on: Executor, lane: Lane, window: int) -> list[Nudge]:
    """Mark as sent what this lane has room for; the caller hands the nudges to Redis or calls `unsend`.

    window: how many of an owner's may be in Redis.
    """
    most = BATCH_WINDOW if lane.shared else window
    parameters = {"queue": lane.queue, "lane": lane.name, "priority": lane.priority, "window": most}
    return [Nudge(*row) for row in on.execute(_LANE, parameters)]


def let_all_go(on: Executor, window: int) -> list[Nudge]:
    """The same for every lane that holds jobs back."""
    return [Nudge(*row) for row in on.execute(_LANES, {"window": window})]


def unsend_overtaken(on: Executor, older_s: float, limit: int = MOST) -> int:
    """Make due again what was sent more than `older_s` seconds before a job that runs by now: so many, up to a limit.

    On a queue that is never empty this is how a lost message shows: their number says nothing.
    """
    return cast(CursorResult[Any], on.execute(_OVERTAKEN, {"older_s": older_s, "limit": limit})).rowcount


def sent_counts(on: Executor, older_s: float) -> dict[str, int]:
    """How many jobs of each queue were sent more than `older_s` seconds ago and not claimed."""
    return {row[0]: row[1] for row in on.execute(_SENT_COUNTS, {"older_s": older_s})}


def sent_ids(on: Executor, queue: str, older_s: float) -> set[UUID]:
    """Which jobs of a queue were sent more than `older_s` seconds ago and not claimed."""
    return set(on.execute(_SENT_IDS, {"queue": queue, "older_s": older_s}).scalars())
