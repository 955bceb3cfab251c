"""Submission: jobs are recorded in the ledger first, and their nudges go to Redis once that is committed."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from kombu.exceptions import OperationalError
from sqlalchemy import event
from sqlalchemy.exc import DataError
from sqlalchemy.exc import OperationalError as PostgresError
from sqlalchemy.orm import Session

from broker import tracing
from broker.errors import InvalidParams, Unavailable
from broker.publish import publish
from broker.settings import settings
from db import ledger, outbox, storable
from db.engine import autocommit
from db.ledger import Lane, NewJob
from db.outbox import Nudge

log = structlog.get_logger()
_ambient: ContextVar[Session | None] = ContextVar("gristmill_session", default=None)
_OUTBOX = "gristmill_outbox"
_PAUSE_S = 2.0  # after a failure, Redis is not tried again for so long: one that hangs costs each caller seconds
_away_until = 0.0


@contextmanager
def within(session: Session) -> Iterator[Session]:
    """Every submission in this block is part of the session's transaction: it happens if that commits.

    `.delay()`, `group`, `chain` and `chord` included. The messages go after the commit; if the process dies in
    between, the relay sends them.
    """
    token = _ambient.set(session)
    try:
        yield session
    finally:
        _ambient.reset(token)


def ambient() -> Session | None:
    """The session of the enclosing `within` block."""
    return _ambient.get()


def submit(jobs: Sequence[NewJob], session: Session | None = None) -> list[UUID]:
    """Record jobs and nudge the workers; returns the id that stands for each.

    One INSERT, however many jobs. A job whose key is live already is not recorded again: the id is the live one's.
    When Redis is away the jobs are recorded all the same, and the relay sends them once it is back.
    """
    if tracing.on():
        return tracing.submitted(jobs, lambda carrying: _submit(carrying, session))
    return _submit(jobs, session)


def _submit(jobs: Sequence[NewJob], session: Session | None) -> list[UUID]:
    session = session or _ambient.get()
    try:
        if session is None:
            with autocommit() as connection:
                ids, due = _record(connection, jobs)
        else:
            ids, due = _record(session, jobs)
    except PostgresError as error:
        raise unavailable(error) from error
    if session is None:
        unsent = _Unsent()
        unsent.add(jobs, due)
        unsent.send()
    else:
        _outbox(session).add(jobs, due)
    return ids


def unavailable(error: PostgresError) -> Unavailable:
    """What a caller is told when Postgres does not answer."""
    said = str(error.orig).strip().split("\n")[0]
    if error.statement is None:
        return Unavailable(f"nothing was recorded, Postgres does not answer: {said}: submit again when it is back")
    return Unavailable(
        f"the connection to Postgres broke, the job may be recorded or not: {said}: "
        "submit again; with the same task_id or key it is recorded once"
    )


@dataclass(slots=True)
class _Unsent:
    """What to tell Redis once a submission is committed."""

    nudges: list[Nudge] = field(default_factory=list)
    lanes: set[Lane] = field(default_factory=set)

    def add(self, jobs: Sequence[NewJob], due: set[UUID]) -> None:
        self.nudges += [nudge(each) for each in jobs if each.id in due]
        self.lanes |= {each.lane for each in jobs if each.lane and each.id not in due}

    def send(self) -> None:
        global _away_until
        if time.monotonic() < _away_until:
            _leave_to_relay(self.nudges, "Redis was away a moment ago")
            return
        if not send(self.nudges) or not send_lanes(self.lanes):
            _away_until = time.monotonic() + _PAUSE_S


def send_lane(lane: Lane) -> bool:
    """Send what a lane has room for; False when that is left to the relay."""
    try:
        with autocommit() as connection:
            nudges = outbox.let_go(connection, lane, settings().owner_window)
    except PostgresError as error:
        log.warning("lane_left_to_relay", reason=str(error).split("\n")[0])
        return False
    return send(nudges)


def send_lanes(lanes: Collection[Lane]) -> bool:
    """The same for these, in one statement."""
    if len(lanes) < 2:
        return all(map(send_lane, lanes))
    try:
        with autocommit() as connection:
            nudges = outbox.let_all_go(connection, settings().owner_window)
    except PostgresError as error:
        log.warning("lanes_left_to_relay", reason=str(error).split("\n")[0])
        return False
    return send(nudges)


def _record(on: ledger.Executor, jobs: Sequence[NewJob]) -> tuple[list[UUID], set[UUID]]:
    """Insert the rows; parameters that Postgres refuses (NaN, a NUL character) are the caller's mistake."""
    try:
        return ledger.submit(on, jobs)
    except DataError:
        for each in jobs:
            try:
                storable.encode(each.params)
            except storable.NotStorable as error:
                raise InvalidParams(f"{each.kind}: the parameters are {error}: correct them") from None
        raise


def nudge(job: NewJob) -> Nudge:
    """The message that names this job."""
    return Nudge(job.id, job.kind, job.queue, job.priority, job.params, job.time_limit_s, job.root_id, job.parent_id)


def send(nudges: Sequence[Nudge]) -> bool:
    """Publish nudges of committed jobs; on failure the ledger is told, and the relay sends them later."""
    if not nudges:
        return True
    try:
        publish(nudges)
    except OperationalError as error:
        _leave_to_relay(nudges, str(error))
        return False
    return True


def _leave_to_relay(nudges: Sequence[Nudge], reason: str) -> None:
    log.warning("nudges_not_sent", count=len(nudges), reason=reason, remedy="the relay will send them")
    try:
        with autocommit() as connection:
            outbox.unsend(connection, [each.id for each in nudges])
    except PostgresError as away:  # the jobs are recorded all the same, and the relay misses their messages
        log.warning("nudges_not_marked", count=len(nudges), reason=str(away).split("\n")[0])


def _outbox(session: Session) -> _Unsent:
    if _OUTBOX not in session.info:
        session.info[_OUTBOX] = _Unsent()
        event.listen(session, "after_commit", _after_commit)
        event.listen(session, "after_rollback", _after_rollback)
    unsent: _Unsent = session.info[_OUTBOX]
    return unsent


def _after_commit(session: Session) -> None:
    # Also fired when a savepoint is released: what it recorded is not committed yet.
    if session.in_nested_transaction():
        return
    unsent, session.info[_OUTBOX] = session.info[_OUTBOX], _Unsent()
    unsent.send()


def _after_rollback(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info[_OUTBOX] = _Unsent()
