"""Batches: jobs that wait together are claimed together, run in one call of a body, and are settled each on its own.

The job whose message woke a worker leads. Its mates have no message that anybody waits for: they name their leader, and
their leases are renewed and lost with its own (`lease.renew`, `lease.lose`). Each keeps its own attempt, result,
error, retries and cancellation.
A job to which an attempt was charged runs alone, so that what fails or kills its process is found out by itself; and so
does one with a single attempt, which others must not cost it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from db.ledger import BACK_SET, CLAIMED, LOST, Claimed, Executor, Lost, fail_set
from db.storable import encode

# First what is held back in the leader's own lane: nobody gets a message of it, and an owner's turn is spent on that
# owner's jobs. Then, if there is room, whoever's is due.
_MAY_JOIN = """batch = :batch AND queue = :queue AND state = 'PENDING' AND run_at <= now()
    AND attempt = spared AND max_attempts > 1 AND (expires_at IS NULL OR expires_at > now() OR attempt > 0)"""
_JOIN = text(f"""
    UPDATE job SET state = 'STARTED', attempt = attempt + 1, worker = :worker, started_at = now(),
                   lease_until = now() + make_interval(secs => :lease_s), progress = NULL, leader_id = :leader_id
    WHERE id = ANY(ARRAY(
        SELECT id FROM (SELECT id FROM job WHERE lane = :lane AND sent_at IS NULL AND {_MAY_JOIN}
                        ORDER BY priority, run_at LIMIT :most FOR UPDATE SKIP LOCKED) AS held
        UNION ALL
        SELECT id FROM (SELECT id FROM job WHERE NOT (lane = :lane AND sent_at IS NULL) AND {_MAY_JOIN}
                        ORDER BY priority, run_at LIMIT :most FOR UPDATE SKIP LOCKED) AS others
        LIMIT :most))
    RETURNING {CLAIMED}""")

# In the order of their ids: see db.ledger.picked. The names are no columns of job: the statements need no others.
_HELD = """
    WITH held AS MATERIALIZED (
        SELECT job_id, outcome, permanent FROM json_to_recordset(CAST(:rows AS json)) AS r(
            job_id uuid, fence integer, outcome jsonb, permanent boolean)
        JOIN job ON id = job_id AND attempt = fence AND state = 'STARTED'
        ORDER BY id FOR NO KEY UPDATE OF job)"""
_SETTLED = f"RETURNING {LOST}"

# Nobody told a mate that it was to be cancelled: what it did is dropped here.
_SUCCEED = text(f"""{_HELD}
    UPDATE job SET state = CASE WHEN cancel_requested_at IS NULL THEN 'SUCCESS' ELSE 'REVOKED' END,
                   result = CASE WHEN cancel_requested_at IS NULL THEN outcome END,
                   error = NULL, finished_at = now(), lease_until = NULL
    FROM held WHERE id = job_id {_SETTLED}""")

_FAIL = text(f"""{_HELD}
    UPDATE job {fail_set(permanent="permanent", error="outcome")}
    FROM held WHERE id = job_id {_SETTLED}""")

_HAND_OVER = text(f"""{_HELD}
    UPDATE job {BACK_SET}
    FROM held WHERE id = job_id AND cancel_requested_at IS NULL""")


@dataclass(frozen=True, slots=True)
class Failure:
    """How one job of a batch failed: its error as the ledger keeps it, and whether it can never succeed."""

    job: Claimed
    error: dict[str, Any]
    permanent: bool


def join(on: Executor, leader: Claimed, worker: str, lease_s: float, most: int) -> list[Claimed]:
    """Claim up to `most` further due jobs that may run with this one: in one statement, passing over what others hold.

    Of its own lane first, then of others; within each the highest priority first, then the longest due.
    """
    lane = leader.lane
    if lane is None or not leader.may_join:
        return []
    rows = on.execute(
        _JOIN,
        {
            "batch": leader.batch,
            "queue": leader.queue,
            "lane": lane.name,
            "leader_id": leader.id,
            "worker": worker,
            "lease_s": lease_s,
            "most": most,
        },
    )
    return [Claimed(*row) for row in rows]


def succeed(on: Executor, results: Sequence[tuple[Claimed, Any]]) -> list[Lost]:
    """Store the results of these jobs; what was to be cancelled is REVOKED. Returns those that were still held."""
    rows = [_row(job) | {"outcome": result} for job, result in results]
    return [Lost(*row) for row in on.execute(_SUCCEED, {"rows": encode(rows)})]


def fail(on: Executor, failures: Sequence[Failure]) -> list[Lost]:
    """End these attempts with their errors, each as `ledger.fail` does. Returns those that were still held."""
    rows = [_row(each.job) | {"outcome": each.error, "permanent": each.permanent} for each in failures]
    return [Lost(*row) for row in on.execute(_FAIL, {"rows": encode(rows)})]


def hand_over(on: Executor, jobs: Iterable[Claimed]) -> None:
    """These go on elsewhere, uncharged: the process that held them goes no further with them."""
    on.execute(_HAND_OVER, {"rows": encode([_row(job) for job in jobs])})


def _row(job: Claimed) -> dict[str, Any]:
    return {"job_id": str(job.id), "fence": job.attempt}
