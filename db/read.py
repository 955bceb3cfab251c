"""Read models: what the command line and other doors show of the ledger, in one statement each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from db.ledger import NEVER
from db.prefix import PREFIX, bounds
from db.state import WAITING

Reader = Connection | Session


class NotFound(LookupError):
    """No row, or more than one, answers to a name that a user gave. The message names the value and the remedy."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """One line of the list of jobs. `run_at` is None for a job that waits for its children."""

    id: UUID
    kind: str
    state: str
    queue: str
    priority: int
    attempt: int
    max_attempts: int
    created_at: datetime
    run_at: datetime | None
    began_at: datetime | None  # its first start
    started_at: datetime | None  # its last one
    finished_at: datetime | None
    worker: str | None
    progress: dict[str, Any] | None  # None of what has ended well, which is done
    message: str | None  # of the last error
    cancel_requested: bool
    owner: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """One transition in a job's history."""

    at: datetime
    from_state: str | None
    to_state: str
    attempt: int
    worker: str | None
    error: str | None
    took_s: float | None  # how long it had waited since it was due, or how long it had run
    cause: str | None  # the error's type; of an attempt that was not charged "GivenBack" or "Suspended"
    number: int  # of the attempt as it is compared with the limit: one that was not charged goes on as the same


@dataclass(frozen=True, slots=True)
class JobDetail(JobRow):
    """All that is known of one job."""

    params: dict[str, Any]
    key: str | None
    result: Any
    error: dict[str, Any] | None
    notes: dict[str, Any] | None  # what the run met and settled by itself
    expires_at: datetime | None
    time_limit_s: float | None
    parent_id: UUID | None
    root_id: UUID | None
    leader_id: UUID | None  # in whose batch it ran
    children: dict[str, int] = field(default_factory=dict)  # by state
    history: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pulse:
    """How far a job is: its own progress, or how much of the fan-out that it waits for is done."""

    state: str
    done: float
    total: float
    note: str
    left_s: float | None = None  # until a fan-out is done, if it goes on as it has gone
    due_s: float | None = None  # until it is due, of what is due later
    suspended: bool = False  # it waits for its children


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One version of a model in the registry."""

    name: str
    version: int
    is_current: bool
    artifact_digest: str
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    job_id: UUID | None
    created_at: datetime


# Attempts that were not charged (a shutdown, a wait for children) are left out of the count that people compare with
# the limit.
_ROW = f"""id, kind, state, queue, priority, attempt - spared AS attempt, max_attempts, created_at,
    nullif(run_at, {NEVER}) AS run_at,
    CASE WHEN attempt > 1 THEN coalesce((SELECT at FROM job_event WHERE job_id = job.id AND to_state = 'STARTED'
                                         ORDER BY job_event.id LIMIT 1), started_at)
         ELSE started_at END AS began_at, started_at, finished_at, worker,
    CASE WHEN state <> 'SUCCESS' THEN progress END AS progress, error->>'message' AS message,
    cancel_requested_at IS NOT NULL AS cancel_requested, owner"""

# The next page begins where the index on created_at has the last row: the pages before it are not read again.
_LIST = text(f"""
    SELECT {_ROW} FROM job
    WHERE (CAST(:state AS varchar) IS NULL OR state = :state)
      AND (CAST(:kind AS varchar) IS NULL OR kind = :kind)
      AND (CAST(:queue AS varchar) IS NULL OR queue = :queue)
      AND (CAST(:owner AS varchar) IS NULL OR owner = :owner)
      AND (CAST(:parent AS uuid) IS NULL
           OR group_id IN (SELECT group_id FROM barrier WHERE parent_id = CAST(:parent AS uuid)))
      AND (CAST(:last_at AS timestamptz) IS NULL OR created_at <= CAST(:last_at AS timestamptz))
      AND (CAST(:last_at AS timestamptz) IS NULL OR created_at < CAST(:last_at AS timestamptz)
           OR id > CAST(:last_id AS uuid))
    ORDER BY created_at DESC, id LIMIT :limit""")

_DETAIL = text(f"""
    SELECT {_ROW}, params, key, result, error, notes, expires_at, time_limit_s, parent_id, root_id,
           leader_id
    FROM job WHERE id = :id""")

_HISTORY = text("""
    SELECT at, from_state, to_state, attempt, worker, error, took_s, cause,
           attempt - count(*) FILTER (WHERE cause IN ('GivenBack', 'Suspended')) OVER (
               ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS number
    FROM job_event WHERE job_id = :id ORDER BY id""")

_CHILDREN = text("""
    SELECT state, count(*) FROM job WHERE group_id IN (SELECT group_id FROM barrier WHERE parent_id = :id)
    GROUP BY state""")

_INTERRUPTIONS = text("""
    SELECT cause, count(*) FROM job_event
    WHERE cause IN ('WorkerLost', 'WorkerLostError', 'TimeLimitExceeded', 'GivenBack') AND job_id IN (
        SELECT unnest(CAST(:ids AS uuid[])) UNION ALL
        SELECT id FROM job WHERE group_id IN (SELECT group_id FROM barrier WHERE parent_id = ANY(:ids)))
    GROUP BY 1 ORDER BY 1""")

# Bounds instead of LIKE: the primary key's index answers.
_BY_PREFIX = text("SELECT id FROM job WHERE id BETWEEN :first AND :last ORDER BY id LIMIT 3")

_PULSE = text(f"""
    SELECT job.state, job.progress, job.run_at = {NEVER} AS suspended, error->>'message' AS message,
           extract(epoch FROM CASE WHEN job.run_at <> {NEVER} THEN job.run_at - now() END)::float8 AS due_s,
           job.notes->'fan_out' AS counted, family.*
    FROM job LEFT JOIN LATERAL (
        SELECT count(*) AS children, count(*) FILTER (WHERE c.finished_at IS NOT NULL) AS ended,
               sum(CASE WHEN c.finished_at IS NOT NULL THEN 1
                        ELSE coalesce((c.progress->>'done')::float8 / nullif((c.progress->>'total')::float8, 0), 0) END
               ) AS share,
               extract(epoch FROM now() - min(c.started_at)) AS elapsed
        FROM barrier b JOIN job c ON c.group_id = b.group_id
        WHERE b.parent_id = job.id AND b.released_at IS NULL) AS family ON true
    WHERE job.id = :id""")

_MODELS = text("""
    SELECT name, version, is_current, artifact_digest, metrics, lineage, job_id, created_at
    FROM model ORDER BY name, version DESC""")

_TITLES = text("SELECT item_id, title FROM catalogue_item WHERE item_id = ANY(:ids)")


def list_jobs(
    on: Reader, *, state: str | None = None, kind: str | None = None, queue: str | None = None,
    owner: str | None = None, parent: UUID | None = None, after: tuple[datetime, UUID] | None = None, limit: int = 20,
) -> list[JobRow]:  # fmt: skip
    """The newest that match. parent: of whose fan-out they are; after: `created_at` and id of a page's last row."""
    last_at, last_id = after or (None, None)
    matching = {"state": state, "kind": kind, "queue": queue, "owner": owner, "parent": parent}
    rows = on.execute(_LIST, {**matching, "last_at": last_at, "last_id": last_id, "limit": limit})
    return [JobRow(**row) for row in rows.mappings()]


def find(on: Reader, prefix: str) -> UUID:
    """The id that begins with these characters, at least 8 of them. Raises NotFound."""
    if (within := bounds(prefix)) is None:
        raise NotFound(f"{prefix!r} is no job id: give an id of `gristmill jobs`, or its first {PREFIX} characters")
    first, last = within
    found: list[UUID] = list(on.execute(_BY_PREFIX, {"first": first, "last": last}).scalars())
    if not found:
        raise NotFound(f"no job has the id {prefix!r}: `gristmill jobs` lists the newest")
    if len(found) > 1:
        raise NotFound(f"{prefix!r} begins the ids of several jobs ({found[0]}, {found[1]}): give more of it")
    return found[0]


def show(on: Reader, prefix: str) -> JobDetail:
    """One job with its history and the counts of its children. Raises NotFound."""
    job_id = {"id": find(on, prefix)}
    row = on.execute(_DETAIL, job_id).mappings().one()
    children = {row[0]: row[1] for row in on.execute(_CHILDREN, job_id)}
    history = [Event(**event) for event in on.execute(_HISTORY, job_id).mappings()]
    return JobDetail(**row, children=children, history=history)


def interruptions(on: Reader, ids: Sequence[UUID | str]) -> dict[str, int]:
    """How often attempts of these jobs and of their children ended before their time, by cause: WorkerLost (a lease ran
    out), WorkerLostError (a process died), TimeLimitExceeded, GivenBack (a worker was stopped)."""
    rows = on.execute(_INTERRUPTIONS, {"ids": [UUID(str(each)) for each in ids]})
    return {row[0]: row[1] for row in rows}


def pulse(on: Reader, job_id: UUID) -> Pulse:
    """How far a job is, for a progress bar. Raises NotFound."""
    row = on.execute(_PULSE, {"id": job_id}).mappings().first()
    if row is None:
        raise NotFound(f"no job has the id '{job_id}'")
    if row["suspended"] and row["children"]:
        done, total = float(row["share"]), float(row["children"])
        note = f"{row['ended']} of {row['children']} children"
        per_s = done / float(row["elapsed"]) if done and row["elapsed"] else None
        if counted := row["counted"]:  # the children are parts of something that people count
            note = f"{done / total * counted['of']:,.0f} of {counted['of']:,} {counted['unit']}"
            note += f", {per_s / total * counted['of']:,.0f}/s" if per_s else ""
        return Pulse(row["state"], done, total, note, (total - done) / per_s if per_s else None, suspended=True)
    due_s = row["due_s"] if row["state"] in WAITING and (row["due_s"] or 0) > 0 else None
    progress = row["progress"] or {}
    note = " ".join(filter(None, (progress.get("stage"), progress.get("message"))))
    if row["state"] == "RETRY":
        note = f"after: {(row['message'] or '').partition(chr(10))[0]}"
    elif row["state"] == "PENDING":
        note = "due later" if due_s else ""
    done, total = float(progress.get("done") or 0), float(progress.get("total") or 0)
    return Pulse(row["state"], done, total, note, due_s=due_s)


def models(on: Reader) -> list[ModelRow]:
    """The model registry, newest versions first."""
    return [ModelRow(**row) for row in on.execute(_MODELS).mappings()]


def titles(on: Reader, item_ids: Sequence[str]) -> dict[str, str]:
    """The titles of catalogue items, by id."""
    return {row[0]: row[1] for row in on.execute(_TITLES, {"ids": list(item_ids)})}
