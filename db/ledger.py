"""The ledger: how a job gets into each state and out of it, one conditional statement a transition.

    PENDING  recorded, due at run_at.               in: submit            out: claim, cancel, expire
    STARTED  one worker, one attempt, one lease.    in: claim             out: succeed, fail, suspend, hand_over, revoke
    RETRY    due again at run_at, error kept.       in: fail              out: claim, cancel
    SUCCESS, FAILURE, REVOKED                       final: a trigger refuses any further change

Out of STARTED goes also what its worker does not end: db.lease.

Every write after the claim names the attempt (the fence): a worker that lost its lease changes nothing and
learns it from the row count. The statements take a connection, so they run alone (autocommit, one round trip)
or inside a caller's transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import Connection, CursorResult, TextClause, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.storable import encode

Executor = Connection | Session


class DuplicateId(ValueError):
    """A job with this id was submitted before."""


# Messages of a batch's lane in Redis: whoever gets one takes the other jobs along, so that a second one is there for
# the next process, and for when the first is lost. More would only find nothing to claim.
BATCH_WINDOW = 2


@dataclass(frozen=True, slots=True)
class Lane:
    """Jobs on one queue at one priority of which only so many are in Redis at once (see db.outbox).

    Those of one owner; or, where nobody is named, those that may run in one batch: then `shared`.
    """

    queue: str
    name: str
    priority: int
    shared: bool


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a submission records."""

    id: UUID
    kind: str
    queue: str
    priority: int
    params: dict[str, Any]
    key: str | None = None
    owner: str | None = None
    batch: str | None = None  # jobs with the same one may run in one batch: see db.batch
    max_attempts: int = 3
    backoff_s: float = 2.0
    time_limit_s: float | None = None
    run_at: datetime | None = None
    expires_at: datetime | None = None
    parent_id: UUID | None = None
    root_id: UUID | None = None
    group_id: UUID | None = None
    group_index: int | None = None
    canvas: dict[str, Any] | None = None
    state: str = "PENDING"
    error: dict[str, Any] | None = None
    notes: dict[str, Any] | None = None

    @property
    def lane(self) -> Lane | None:
        """Its owner's, or its batch's; None: it is sent when it is due."""
        return _lane(self.queue, self.owner, self.batch, self.priority)


_FIELDS = tuple(each.name for each in fields(NewJob))


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that this worker may run now, and the attempt that fences it."""

    id: UUID
    kind: str
    params: dict[str, Any]
    attempt: int
    parent_id: UUID | None
    root_id: UUID | None
    group_id: UUID | None
    has_canvas: bool
    queue: str
    owner: str | None
    batch: str | None
    priority: int
    may_join: bool  # nothing was charged to it yet, and another attempt is left: see db.batch
    trace: Any  # where the submission was traced, its context: see broker.tracing

    @property
    def lane(self) -> Lane | None:
        """See NewJob.lane."""
        return _lane(self.queue, self.owner, self.batch, self.priority)


@dataclass(frozen=True, slots=True)
class Lost:
    """A job taken back from a worker that no longer holds it."""

    id: UUID
    state: str
    group_id: UUID | None
    has_canvas: bool
    kind: str
    attempt: int


def _lane(queue: str, owner: str | None, batch: str | None, priority: int) -> Lane | None:
    name = owner or batch
    return None if name is None else Lane(queue, name, priority, shared=owner is None)


# A due job's message is about to be handed to Redis: sent_at is set in the same statement, and the relay finds out if
# the submitter died before it did so. A job in a lane is sent when that has room (see db.outbox), which is looked at
# here for a single job of a batch: on an idle queue it is not to wait for another statement.
_SUBMIT = text("""
    INSERT INTO job (id, kind, queue, priority, params, key, owner, batch, lane, state, max_attempts, backoff_s,
                     time_limit_s, run_at, sent_at, expires_at, finished_at, parent_id, root_id, group_id, group_index,
                     canvas, error, notes)
    SELECT id, kind, queue, priority, params, key, owner, batch, coalesce(owner, batch), state, max_attempts, backoff_s,
           time_limit_s, coalesce(run_at, now()),
           CASE WHEN coalesce(run_at, now()) <= now() AND owner IS NULL AND (batch IS NULL OR :room > 0 AND :room > (
                    SELECT count(*) FROM job AS ahead
                    WHERE (ahead.queue, ahead.lane, ahead.priority) = (r.queue, r.batch, r.priority)
                      AND ahead.state IN ('PENDING', 'RETRY') AND ahead.sent_at IS NOT NULL AND ahead.lane IS NOT NULL))
                THEN clock_timestamp() END,
           expires_at, CASE WHEN state = 'FAILURE' THEN now() END,
           parent_id, root_id, group_id, group_index, nullif(canvas, 'null'), nullif(error, 'null'), notes
    FROM json_to_recordset(CAST(:rows AS json)) AS r(
        id uuid, kind varchar, queue varchar, priority smallint, params jsonb, key varchar, owner varchar,
        batch varchar, state varchar, max_attempts integer, backoff_s float8, time_limit_s float8, run_at timestamptz,
        expires_at timestamptz, parent_id uuid, root_id uuid, group_id uuid, group_index integer, canvas jsonb,
        error jsonb, notes jsonb)
    ORDER BY key -- two submissions of the same keys take them in one order, or each would wait for the other
    ON CONFLICT (key) WHERE key IS NOT NULL AND state IN ('PENDING', 'STARTED', 'RETRY') DO NOTHING
    RETURNING id, sent_at IS NOT NULL""")

_LIVE_WITH_KEY = text("""
    SELECT key, id FROM job WHERE key = ANY(:keys) AND state IN ('PENDING', 'STARTED', 'RETRY')""")


def picked(condition: str, how: str = "ORDER BY id FOR NO KEY UPDATE") -> str:
    """The rows that meet a condition, locked to be changed by the same statement.

    In the order of their ids, as in every statement that waits for a row while it holds others: two of them on the same
    rows would else end in a deadlock. Otherwise, passing over what others hold.
    = ANY(ARRAY(...)) is evaluated once. What stands in IN (...) the planner may evaluate again for every row, and under
    a limit it would each time pass over what is changed already and pick as many again.
    """
    return f"id = ANY(ARRAY(SELECT id FROM job WHERE {condition} {how}))"


LOST = "id, state, group_id, canvas IS NOT NULL AS has_canvas, kind, attempt"

CLAIMED = """id, kind, params, attempt, parent_id, root_id, group_id, canvas IS NOT NULL AS has_canvas,
    queue, owner, batch, priority, attempt - spared = 1 AND max_attempts > 1 AS may_join,
    notes->'trace' AS trace"""

_CLAIM = text(f"""
    UPDATE job SET state = 'STARTED', attempt = attempt + 1, worker = :worker, started_at = now(),
                   lease_until = now() + make_interval(secs => :lease_s), progress = NULL, leader_id = NULL
    WHERE id = :id AND state IN ('PENDING', 'RETRY') AND run_at <= now()
      AND (CAST(:kind AS varchar) IS NULL OR kind = :kind)
      AND (expires_at IS NULL OR expires_at > now() OR (state = 'PENDING' AND attempt > 0))
    RETURNING {CLAIMED}""")

_PROGRESS = text("""
    UPDATE job SET progress = CAST(:progress AS jsonb) WHERE id = :id AND attempt = :attempt AND state = 'STARTED'
    RETURNING cancel_requested_at IS NOT NULL""")

_NOTE = text("""
    UPDATE job SET notes = coalesce(notes, '{}') || CAST(:notes AS jsonb)
    WHERE id = :id AND attempt = :attempt AND state = 'STARTED'""")

_SUCCEED = text("""
    UPDATE job SET state = 'SUCCESS', result = CAST(:result AS jsonb), error = NULL, finished_at = now(),
                   lease_until = NULL
    WHERE id = :id AND attempt = :attempt AND state = 'STARTED'""")


def fail_set(
    *,
    permanent: str | None = None,
    charge: bool = False,
    error: str = "CAST(:error AS jsonb)",
    pause_s: str | None = None,
) -> str:
    """The one retry engine: exponential backoff through run_at, with jitter so that a batch does not return at once.

    permanent: a condition under which no attempt is left.
    charge: whether the same statement counts an attempt, one that nobody claimed.
    pause_s: instead of the backoff.
    """
    claims = "attempt + 1" if charge else "attempt"
    final = (
        f"({permanent} OR {claims} - spared >= max_attempts)" if permanent else f"({claims} - spared >= max_attempts)"
    )
    if pause_s is None:
        pause_s = f"least(600, backoff_s * 2 ^ least(30, ({claims} - spared - 1))) * (0.75 + random() / 2)"
    return f"""
    SET {f"attempt = {claims}, " if charge else ""}state = CASE WHEN {final} THEN 'FAILURE'
                     WHEN cancel_requested_at IS NOT NULL THEN 'REVOKED' ELSE 'RETRY' END,
        finished_at = CASE WHEN {final} OR cancel_requested_at IS NOT NULL THEN now() END,
        run_at = now() + make_interval(secs => {pause_s}),
        sent_at = NULL, lease_until = NULL, error = {error}"""


_FAIL = text(f"""
    UPDATE job {fail_set(permanent=":permanent")}
    WHERE id = :id AND attempt = :attempt AND state = 'STARTED'
    RETURNING state""")

# A kind that no code here knows: charged as an attempt, so that a job nobody can run ends as FAILURE. Not within
# seconds: while workers are replaced one after another, clients may have the new code before them. Of the default
# backoff of 2 s the pauses are 1 and 2 minutes.
_REFUSE = text(f"""
    UPDATE job {fail_set(charge=True, pause_s="least(600, 30 * backoff_s * 2 ^ least(30, attempt - spared))")}
    WHERE id = :id AND state IN ('PENDING', 'RETRY')
    RETURNING state""")

# When a job is due that waits for others. Not 'infinity', which no datetime can hold: its row could not be read.
NEVER = "timestamptz '9999-01-01 00:00:00+00'"

# Waits for its children, holding no worker: due again when the barrier opens. Not charged.
_SUSPEND = text(f"""
    UPDATE job SET state = 'PENDING', run_at = {NEVER}, sent_at = NULL, lease_until = NULL, spared = spared + 1
    WHERE id = :id AND attempt = :attempt AND state = 'STARTED'""")

# What goes on elsewhere is not charged. What is to be cancelled is left to its worker, or to the rescue.
BACK_SET = """
    SET state = 'PENDING', run_at = now(), sent_at = NULL, lease_until = NULL, spared = spared + 1"""

_HAND_OVER = text(f"""
    UPDATE job {BACK_SET}
    WHERE id = :id AND attempt = :attempt AND state = 'STARTED' AND cancel_requested_at IS NULL""")

_REVOKE = text(f"""
    UPDATE job SET state = 'REVOKED', finished_at = now(), lease_until = NULL
    WHERE id = :id AND state = 'STARTED' AND cancel_requested_at IS NOT NULL
      AND (CAST(:attempt AS integer) IS NULL OR attempt = :attempt)
    RETURNING {LOST}""")

# At once when nobody runs it; a running one is asked, and its worker answers at its next progress call.
_CANCEL = text(f"""
    UPDATE job SET cancel_requested_at = coalesce(cancel_requested_at, now()),
                   state = CASE WHEN state = 'STARTED' THEN state ELSE 'REVOKED' END,
                   finished_at = CASE WHEN state = 'STARTED' THEN NULL ELSE now() END
    WHERE {picked("id = ANY(:ids) AND state IN ('PENDING', 'RETRY', 'STARTED') AND (:running OR state <> 'STARTED')")}
    RETURNING {LOST}""")

# A cancelled fan-out takes its children with it.
_DESCENDANTS = text("""
    WITH RECURSIVE family(id) AS (
        SELECT CAST(:id AS uuid)
        UNION SELECT job.id FROM family JOIN barrier ON barrier.parent_id = family.id
              JOIN job ON job.group_id = barrier.group_id)
    SELECT id FROM family""")

# A parent that waits for its children, or a job that was given back, was started in time.
_LATE = "state IN ('PENDING', 'RETRY') AND expires_at < now() AND (state = 'RETRY' OR attempt = 0)"
_EXPIRE = text(f"""
    UPDATE job SET state = 'REVOKED', finished_at = now()
    WHERE {picked(_LATE, "ORDER BY expires_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED")}
    RETURNING {LOST}""")

_FORGET = text("""
    UPDATE job SET result = NULL WHERE id = :id AND state IN ('SUCCESS', 'FAILURE', 'REVOKED')""")


def submit(on: Executor, jobs: Sequence[NewJob]) -> tuple[list[UUID], set[UUID]]:
    """Record jobs in one statement.

    Returns the id that stands for each (its own, or that of the live job with its key), and which of them
    were recorded now and are due, so that the caller sends their messages once the transaction commits.
    Raises DuplicateId when an id was used before.
    """
    recorded: dict[UUID, bool] = {}
    standing: dict[str, UUID] = {}
    waiting = list(jobs)
    while waiting:
        rows = to_json([_row(each) for each in waiting], inf_nan_mode="constants", fallback=str).decode()
        room = BATCH_WINDOW if len(waiting) == 1 else 0  # of many, none sees the others: they go by the lane
        try:
            recorded.update((row[0], row[1]) for row in on.execute(_SUBMIT, {"rows": rows, "room": room}))
        except IntegrityError as error:
            raise DuplicateId(f"a job with this id exists already: {error.orig}".split("\n")[0]) from error
        waiting = [each for each in waiting if each.id not in recorded]
        if waiting:
            standing |= live(on, [each.key for each in waiting if each.key is not None])
            # One that ended between the two statements is gone from both answers: record it in the next round.
            waiting = [each for each in waiting if each.key not in standing]
    ids = [each.id if each.id in recorded else standing[each.key or ""] for each in jobs]
    return ids, {each for each, due in recorded.items() if due}


def live(on: Executor, keys: Sequence[str]) -> dict[str, UUID]:
    """The live jobs of these keys."""
    return {row[0]: row[1] for row in on.execute(_LIVE_WITH_KEY, {"keys": list(keys)})}


def _row(new: NewJob) -> dict[str, Any]:
    """The fields that are set; the statement takes missing ones as NULL."""
    return {name: value for name in _FIELDS if (value := getattr(new, name)) is not None}


def claim(on: Executor, job_id: UUID, worker: str, lease_s: float, kind: str | None = None) -> Claimed | None:
    """Take a due job for one attempt; None when another delivery took it, it is final, or it is of another kind."""
    row = on.execute(_CLAIM, {"id": job_id, "worker": worker, "lease_s": lease_s, "kind": kind}).first()
    return Claimed(*row) if row else None


def progress(on: Executor, job_id: UUID, attempt: int, value: dict[str, Any]) -> bool | None:
    """Record progress; returns whether a cancellation is requested, or None when the lease is lost."""
    row = on.execute(_PROGRESS, {"id": job_id, "attempt": attempt, "progress": json.dumps(value)}).first()
    return None if row is None else bool(row[0])


def note(on: Executor, job_id: UUID, attempt: int, facts: dict[str, Any]) -> bool:
    """Keep facts about the run in the job's row, beside those of other names; False when the lease was lost."""
    return count(on, _NOTE, id=job_id, attempt=attempt, notes=encode(facts)) == 1


def succeed(on: Executor, job_id: UUID, attempt: int, result: Any) -> bool:
    """Store the result; False when the lease was lost, and then nothing is stored."""
    return count(on, _SUCCEED, id=job_id, attempt=attempt, result=encode(result)) == 1


def fail(on: Executor, job_id: UUID, attempt: int, error: dict[str, Any], *, permanent: bool) -> str | None:
    """End an attempt with its error: RETRY while attempts are left, else FAILURE; REVOKED when it was to be
    cancelled anyway. None: the lease was lost."""
    parameters = {"id": job_id, "attempt": attempt, "error": json.dumps(error), "permanent": permanent}
    return on.execute(_FAIL, parameters).scalar()


def refuse(on: Executor, job_id: UUID, error: dict[str, Any]) -> str | None:
    """No worker that got this job's message knows its kind."""
    return on.execute(_REFUSE, {"id": job_id, "error": json.dumps(error)}).scalar()


def suspend(on: Executor, job_id: UUID, attempt: int) -> bool:
    """End this run of a fan-out's parent until its children are final."""
    return count(on, _SUSPEND, id=job_id, attempt=attempt) == 1


def hand_over(on: Executor, job_id: UUID, attempt: int) -> bool:
    """A job that noticed that its worker shuts down goes on elsewhere; False when the lease was lost."""
    return count(on, _HAND_OVER, id=job_id, attempt=attempt) == 1


def revoke(on: Executor, job_id: UUID, attempt: int | None = None) -> list[Lost]:
    """End a running job whose cancellation was requested, by itself (attempt given) or by its worker's parent."""
    return [Lost(*row) for row in on.execute(_REVOKE, {"id": job_id, "attempt": attempt})]


def cancel(on: Executor, job_id: UUID, *, running: bool = True) -> list[Lost]:
    """Cancel a job and its fan-out's children: REVOKED at once, or asked if running. Empty when all were final."""
    lost: list[Lost] = []
    seen: set[UUID] = set()
    # Again when there are new ones: a parent that was fanning out has committed its children while this waited for it.
    while ids := [row[0] for row in on.execute(_DESCENDANTS, {"id": job_id}) if row[0] not in seen]:
        seen.update(ids)
        lost += [Lost(*row) for row in on.execute(_CANCEL, {"ids": ids, "running": running})]
    return lost


def expire(on: Executor, limit: int = 500) -> list[Lost]:
    """Revoke what was not started before its expiry: the longest expired."""
    return [Lost(*row) for row in on.execute(_EXPIRE, {"limit": limit})]


def forget(on: Executor, job_id: UUID) -> None:
    """Drop the stored result of a final job."""
    on.execute(_FORGET, {"id": job_id})


def count(on: Executor, statement: TextClause, **parameters: Any) -> int:
    return cast(CursorResult[Any], on.execute(statement, parameters)).rowcount
