"""How the queues, the workers and the relay are doing, by the rows of live jobs.

A few milliseconds however many final jobs there are: partial indexes hold the live ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from db.ledger import BATCH_WINDOW, NEVER
from db.read import Reader

SILENT_S = 5.0  # a worker renews its leases about every second


@dataclass(frozen=True, slots=True)
class Depth:
    """The live jobs of a queue, at one priority or at all; each is in one of the first five counts."""

    queue: str
    priority: int | None = None
    waiting: int = 0  # due, and the message in Redis or about to be
    held: int = 0  # due, and held back while enough others of its owner, or of its batch, are ahead
    later: int = 0  # due later: a countdown, the pause before a retry
    suspended: int = 0  # waits for its children
    running: int = 0
    oldest_s: float | None = None  # for how long the first of the due ones is due
    unsent: int = 0  # of the waiting ones: the relay is yet to send the message
    unsent_s: float | None = None  # for how long the first of these is due


@dataclass(frozen=True, slots=True)
class Running:
    """What the workers of a queue hold; seconds are of the oldest."""

    queue: str
    workers: int  # that run a job of it and have not been silent
    overdue: int  # jobs whose lease has run out and that nobody took back
    overdue_s: float | None
    cancelling: int  # jobs that were asked to stop
    cancelling_s: float | None


@dataclass(frozen=True, slots=True)
class Silence:
    """A running job that nobody renews the lease of, in seconds: for how long, and for how much longer it is kept."""

    for_s: float
    left_s: float


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened in the time until now."""

    attempts: int
    charged: int  # of these, not those whose worker was stopped or that wait for their children
    retries: int
    leases_lost: int  # a worker went away, and the relay rescued its job
    last_lost_by: str | None
    processes_lost: int  # killed, out of memory, over the time limit
    dropped: int  # messages that nobody could understand
    last_dropped: str | None  # why


# By lane, as db.outbox lets jobs go: what its window has room for is the relay's to send, the rest is held back.
# Each branch repeats the predicate of the partial index that finds its rows.
_DEPTHS = text(f"""
    WITH live AS (
        SELECT queue, priority, lane, owner IS NULL AS shared, run_at, 'sent' AS place FROM job
        WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NOT NULL
        UNION ALL SELECT queue, priority, NULL, true, run_at, 'unsent' FROM job
        WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND lane IS NULL
        UNION ALL SELECT queue, priority, lane, owner IS NULL, run_at, 'unsent' FROM job
        WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND lane IS NOT NULL
        UNION ALL SELECT queue, priority, NULL, true, NULL, 'running' FROM job WHERE state = 'STARTED'),
    lanes AS (
        SELECT queue, priority, lane, CASE WHEN shared THEN {BATCH_WINDOW} ELSE :window END AS most,
               count(*) FILTER (WHERE place = 'running') AS running,
               count(*) FILTER (WHERE place = 'sent') AS sent,
               count(*) FILTER (WHERE place = 'unsent' AND run_at <= now()) AS due,
               count(*) FILTER (WHERE place = 'unsent' AND run_at > now() AND run_at < {NEVER}) AS later,
               count(*) FILTER (WHERE place = 'unsent' AND run_at = {NEVER}) AS suspended,
               min(run_at) FILTER (WHERE place = 'sent' OR run_at <= now()) AS oldest,
               min(run_at) FILTER (WHERE place = 'unsent' AND run_at <= now()) AS oldest_due
        FROM live GROUP BY queue, priority, lane, shared),
    counted AS (
        SELECT *, CASE WHEN lane IS NULL THEN due ELSE least(due, greatest(0, most - sent)) END AS unsent FROM lanes)
    SELECT queue, CASE WHEN :by_priority THEN priority END AS priority,
           CAST(sum(sent + unsent) AS bigint) AS waiting, CAST(sum(due - unsent) AS bigint) AS held,
           CAST(sum(later) AS bigint) AS later, CAST(sum(suspended) AS bigint) AS suspended,
           CAST(sum(running) AS bigint) AS running,
           CAST(extract(epoch FROM now() - min(oldest)) AS float8) AS oldest_s,
           CAST(sum(unsent) AS bigint) AS unsent,
           CAST(extract(epoch FROM now() - min(oldest_due) FILTER (WHERE unsent > 0)) AS float8) AS unsent_s
    FROM counted GROUP BY 1, 2 ORDER BY 1, 2""")

_RUNNING = text("""
    SELECT queue,
           count(DISTINCT worker) FILTER (WHERE lease_until >= now() + make_interval(secs => :left_s)) AS workers,
           count(*) FILTER (WHERE lease_until < now()) AS overdue,
           CAST(extract(epoch FROM now() - min(lease_until) FILTER (WHERE lease_until < now())) AS float8) AS overdue_s,
           count(cancel_requested_at) AS cancelling,
           CAST(extract(epoch FROM now() - min(cancel_requested_at)) AS float8) AS cancelling_s
    FROM job WHERE state = 'STARTED' GROUP BY queue ORDER BY queue""")

_SILENCE = text("""
    SELECT CAST(extract(epoch FROM now() - lease_until) AS float8) + :lease_s,
           CAST(extract(epoch FROM lease_until - now()) AS float8)
    FROM job WHERE id = :id AND state = 'STARTED' AND lease_until IS NOT NULL""")

_ACTIVITY = text("""
    WITH happened AS (SELECT * FROM job_event WHERE at > now() - make_interval(secs => :seconds)),
    dropped AS (SELECT * FROM dropped_message WHERE at > now() - make_interval(secs => :seconds)),
    counts AS (
        SELECT count(*) FILTER (WHERE to_state = 'STARTED' OR from_state IN ('PENDING', 'RETRY')
                                      AND to_state IN ('RETRY', 'FAILURE')) AS attempts,
               count(*) FILTER (WHERE cause IN ('GivenBack', 'Suspended')) AS spared,
               count(*) FILTER (WHERE to_state = 'RETRY') AS retries,
               count(*) FILTER (WHERE cause = 'WorkerLost') AS leases_lost,
               count(*) FILTER (WHERE cause IN ('WorkerLostError', 'TimeLimitExceeded')) AS processes_lost
        FROM happened)
    SELECT attempts, attempts - spared AS charged, retries, leases_lost,
           (SELECT worker FROM happened WHERE cause = 'WorkerLost' ORDER BY id DESC LIMIT 1) AS last_lost_by,
           processes_lost, (SELECT coalesce(sum(messages), 0) FROM dropped) AS dropped,
           (SELECT reason FROM dropped ORDER BY id DESC LIMIT 1) AS last_dropped
    FROM counts""")

# Of a lane, the first one where none is in Redis: the claim of one lets the next go, without any relay.
_UNSENT = text("""
    (SELECT id FROM job WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND lane IS NULL
        AND run_at < now() - make_interval(secs => :older_s) ORDER BY run_at LIMIT 1000)
    UNION ALL
    SELECT id FROM (
        SELECT DISTINCT ON (queue, lane, priority) id, queue, lane, priority FROM job
        WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND lane IS NOT NULL
          AND run_at < now() - make_interval(secs => :older_s) ORDER BY queue, lane, priority, run_at) AS first
    WHERE NOT EXISTS (
        SELECT FROM job WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NOT NULL AND lane IS NOT NULL
          AND (queue, lane, priority) = (first.queue, first.lane, first.priority))""")

# Postgres that has just come up is given time, as the relay gives it: nobody could renew a lease while it was away.
_OVERDUE = text("""
    SELECT id FROM job WHERE state = 'STARTED' AND lease_until < now() - make_interval(secs => :older_s)
      AND pg_postmaster_start_time() < now() - make_interval(secs => :up_for_s) ORDER BY lease_until LIMIT 1000""")


_LOCKED_BY = text("""
    SELECT DISTINCT worker FROM job WHERE id = ANY(:ids)
      AND id NOT IN (SELECT id FROM job WHERE id = ANY(:ids) FOR NO KEY UPDATE SKIP LOCKED) ORDER BY 1""")


def depths(on: Reader, window: int, *, by_priority: bool = False, queues: Sequence[str] = ()) -> list[Depth]:
    """Every queue that has live jobs, and each of `queues` although it may have none, measured from the rows: Redis
    does not count what it has handed out. window: how many jobs of an owner may be in Redis."""
    rows = on.execute(_DEPTHS, {"window": window, "by_priority": by_priority}).mappings()
    found = [Depth(**row) for row in rows]
    idle = [Depth(queue) for queue in queues if queue not in {each.queue for each in found}]
    return sorted(found + idle, key=lambda each: each.queue)


def running(on: Reader, lease_s: float = 0) -> list[Running]:
    """Every queue of which something runs. lease_s: of a whole lease, and a worker that has not renewed one for
    SILENT_S counts no more; without, one whose lease has run out."""
    rows = on.execute(_RUNNING, {"left_s": max(0.0, lease_s - SILENT_S)}).mappings()
    return [Running(**row) for row in rows]


def silence(on: Reader, job_id: UUID, lease_s: float) -> Silence | None:
    """That a running job has not been heard of for SILENT_S or longer; None while it has, or does not run."""
    row = on.execute(_SILENCE, {"id": job_id, "lease_s": lease_s}).first()
    return Silence(row[0], max(0.0, row[1])) if row and row[0] >= SILENT_S else None


def activity(on: Reader, seconds: float) -> Activity:
    """What happened in the last seconds."""
    return Activity(**on.execute(_ACTIVITY, {"seconds": seconds}).mappings().one())


def unsent(on: Reader, older_s: float) -> set[UUID]:
    """Jobs that have been due for so long and have no message, up to a thousand. A relay may be about to send them:
    what a second look finds again waits for one."""
    return set(on.execute(_UNSENT, {"older_s": older_s}).scalars())


def overdue(on: Reader, older_s: float, up_for_s: float) -> set[UUID]:
    """Jobs whose lease ran out so long ago, up to a thousand. A relay may be about to take them back."""
    return set(on.execute(_OVERDUE, {"older_s": older_s, "up_for_s": up_for_s}).scalars())


def locked_by(on: Reader, ids: Iterable[UUID]) -> list[str]:
    """Workers of these running jobs whose rows somebody's open transaction holds, so that no relay can take them."""
    return list(on.execute(_LOCKED_BY, {"ids": list(ids)}).scalars())
