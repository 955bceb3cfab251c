"""Watching many jobs on one connection: whatever is final is announced, and what else happens is asked for together."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import psycopg
from sqlalchemy import Connection, text

from db.engine import autocommit
from db.ledger import NEVER

CHANNEL = "job_final"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a final job ended."""

    id: UUID
    state: str
    result: Any
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of a job's history."""

    id: int
    job_id: UUID
    at: datetime
    from_state: str | None
    to_state: str
    attempt: int
    worker: str | None
    error: str | None
    took_s: float | None


History = tuple[list[Transition], Outcome | None]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a job is."""

    id: UUID
    state: str
    progress: dict[str, Any] | None
    suspended: bool  # waits for its children


_OUTCOMES = text("""
    SELECT id, state, result, error FROM job WHERE id = ANY(:ids) AND state IN ('SUCCESS', 'FAILURE', 'REVOKED')""")

_TRANSITIONS = text("""
    SELECT e.id, e.job_id, e.at, e.from_state, e.to_state, e.attempt, e.worker, e.error, e.took_s
    FROM unnest(CAST(:ids AS uuid[]), CAST(:after AS bigint[])) AS known(job_id, last)
    JOIN job_event e ON e.job_id = known.job_id AND e.id > known.last
    ORDER BY e.id""")

_STANDINGS = text(f"SELECT id, state, progress, run_at = {NEVER} FROM job WHERE id = ANY(:ids)")


@contextmanager
def listening() -> Iterator[tuple[Connection, "psycopg.Connection[Any]"]]:
    """A connection that hears of every job that becomes final; LISTEN does not pass through a transaction-pooling
    proxy, so that whoever relies on it must look again now and then."""
    with autocommit() as connection:
        raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        connection.exec_driver_sql(f"LISTEN {CHANNEL}")
        try:
            yield connection, raw
        finally:
            connection.invalidate()  # the pool must not keep one that is told of every job


def heard(raw: "psycopg.Connection[Any]", timeout_s: float) -> set[UUID]:
    """The jobs that became final, as soon as there are any; none after so many seconds."""
    return {UUID(each.payload) for each in raw.notifies(timeout=timeout_s, stop_after=1)}


def outcomes(on: Connection, ids: Collection[UUID]) -> list[Outcome]:
    """Of those that are final."""
    return [Outcome(*row) for row in on.execute(_OUTCOMES, {"ids": list(ids)})]


def transitions(on: Connection, after: Mapping[UUID, int]) -> list[Transition]:
    """What happened to these jobs after the transition of this number, in order; of one job none is ever missed, since
    its row is locked from one to the next."""
    rows = on.execute(_TRANSITIONS, {"ids": list(after), "after": list(after.values())})
    return [Transition(*row) for row in rows]


def histories(on: Connection, ids: Collection[UUID]) -> list[History]:
    """All that happened to each of these jobs, and how it ended if it is final; nothing of one that is not there."""
    found = {job_id: list[Transition]() for job_id in ids}
    for each in transitions(on, dict.fromkeys(found, 0)):
        found[each.job_id].append(each)
    ended = {each.id: each for each in outcomes(on, found)}
    return [(found[job_id], ended.get(job_id)) for job_id in ids]


def standings(on: Connection, ids: Collection[UUID]) -> list[Standing]:
    """How far these jobs are."""
    return [Standing(*row) for row in on.execute(_STANDINGS, {"ids": list(ids)})]
