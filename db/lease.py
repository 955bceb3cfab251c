"""Leases: how a worker keeps the jobs that it runs, and how they are taken back from one that is gone or stops.

A lease is renewed from outside the process that computes; whoever lost one writes nothing (db.ledger's fence).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.ledger import BACK_SET, LOST, Executor, Lost, count, fail_set, picked


@dataclass(frozen=True, slots=True)
class Held:
    """A job that a worker still holds."""

    attempt: int
    cancel_requested_s: float | None  # so many seconds ago
    leader_id: UUID | None  # the job whose process runs it in a batch
    kind: str


# A row that its job's own transaction holds is passed over: waiting for it would let the leases of all others run out.
_OF_WORKER = "(id = ANY(:ids) OR leader_id = ANY(:ids)) AND worker = :worker AND state = 'STARTED'"
_RENEW = text(f"""
    UPDATE job SET lease_until = now() + make_interval(secs => :lease_s)
    WHERE {picked(_OF_WORKER, "FOR NO KEY UPDATE SKIP LOCKED")}
    RETURNING id, attempt, CAST(extract(epoch FROM now() - cancel_requested_at) AS float8), leader_id, kind""")

# What waits and was not this worker's is about to be claimed; after a success a process may still end what it does.
_TAKEN = text("""
    SELECT asked.id FROM unnest(CAST(:ids AS uuid[])) AS asked(id) LEFT JOIN job USING (id)
    WHERE job.id IS NULL OR CASE WHEN worker = :worker THEN state NOT IN ('STARTED', 'SUCCESS')
                                 ELSE state NOT IN ('PENDING', 'RETRY') END""")

# The worker's parent saw the process of a job die. It does not know the attempt, but the child that held it is gone,
# and what it ran along with the job in a batch. A job that another process runs along is not lost with its own message.
_LOSE = text(f"""
    UPDATE job {fail_set()}
    WHERE {picked("(id = :id AND leader_id IS NULL OR leader_id = :id) AND worker = :worker AND state = 'STARTED'")}
    RETURNING {LOST}""")

_LEASE_RAN_OUT = """jsonb_build_object('type', 'WorkerLost', 'module', 'broker.errors', 'message', \
'the lease of worker ' || coalesce(worker, '?') || ' ran out: the worker or its machine was lost', \
'traceback', NULL)"""
# Due at once: the lease was pause enough. Nobody could renew while Postgres was down: its holder has the time of a
# lease to do so after a start.
_OVERDUE = """state = 'STARTED' AND lease_until < now()
        AND pg_postmaster_start_time() < now() - make_interval(secs => :up_for_s)"""
_RESCUE = text(f"""
    UPDATE job {fail_set(error=_LEASE_RAN_OUT, pause_s="0")}
    WHERE {picked(_OVERDUE, "ORDER BY lease_until LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED")}
    RETURNING {LOST}""")

# What is to be cancelled is left to the rescue. A row that its job's own transaction holds comes last, so that no other
# waits for it.
_RUNS = "worker = :worker AND state = 'STARTED' AND cancel_requested_at IS NULL"
_GIVE_BACK = [
    text(f"UPDATE job {BACK_SET} WHERE {which}")
    for which in (picked(_RUNS, "FOR NO KEY UPDATE SKIP LOCKED"), picked(_RUNS))
]

_PROLONG = text("""
    UPDATE job SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE id = :id AND attempt = :attempt AND state = 'STARTED'""")

# A process that hangs in its transaction would keep its row from every rescue: Postgres ends the transaction.
_HOLD = text("""
    SELECT cancel_requested_at IS NOT NULL, set_config('idle_in_transaction_session_timeout', '120s', true) FROM job
    WHERE id = :id AND attempt = :attempt AND state = 'STARTED' FOR NO KEY UPDATE""")


def renew(on: Executor, ids: Iterable[UUID], worker: str, lease_s: float) -> dict[UUID, Held]:
    """Renew the leases of all of a worker's jobs, and of those that they run along in a batch: which are still held."""
    rows = on.execute(_RENEW, {"ids": list(ids), "worker": worker, "lease_s": lease_s})
    return {row[0]: Held(*row[1:]) for row in rows}


def taken(on: Executor, ids: Iterable[UUID], worker: str) -> set[UUID]:
    """Which of these jobs are no longer the worker's to run: deleted, given to another attempt, or waiting for one."""
    return {row[0] for row in on.execute(_TAKEN, {"ids": list(ids), "worker": worker})}


def hold(on: Session, job_id: UUID, attempt: int) -> bool | None:
    """Lock the job's row for the rest of a transaction, so that what it writes is written by the lease's holder.

    Returns whether a cancellation is requested, or None when the lease is lost.
    """
    row = on.execute(_HOLD, {"id": job_id, "attempt": attempt}).first()
    return None if row is None else bool(row[0])


def prolong(on: Executor, job_id: UUID, attempt: int, lease_s: float) -> None:
    """Renew the lease of a row that was held so long that renewals passed over it."""
    on.execute(_PROLONG, {"id": job_id, "attempt": attempt, "lease_s": lease_s})


def lose(on: Executor, job_id: UUID, worker: str, error: dict[str, Any]) -> list[Lost]:
    """The process that ran this job on this worker, alone or leading a batch, is gone."""
    rows = on.execute(_LOSE, {"id": job_id, "worker": worker, "error": json.dumps(error)})
    return [Lost(*row) for row in rows]


def rescue(on: Executor, up_for_s: float, limit: int = 500) -> list[Lost]:
    """Take back every job whose lease has run out, once Postgres has been up for so long."""
    return [Lost(*row) for row in on.execute(_RESCUE, {"up_for_s": up_for_s, "limit": limit})]


def give_back(on: Executor, worker: str) -> int:
    """A worker that shuts down, its processes gone, returns what they had not finished; how many there were."""
    return sum(count(on, each, worker=worker) for each in _GIVE_BACK)
