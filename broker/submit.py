"""Submission: jobs are recorded in the ledger first, and their nudges go to Redis once that is committed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

import structlog
from kombu.exceptions import OperationalError
from sqlalchemy import event
from sqlalchemy.exc import DataError
from sqlalchemy.exc import OperationalError as PostgresError
from sqlalchemy.orm import Session

from broker.errors import InvalidParams
from broker.publish import publish
from db import ledger, outbox
from db.engine import autocommit
from db.ledger import NewJob
from db.outbox import Nudge

log = structlog.get_logger()
_ambient: ContextVar[Session | None] = ContextVar("gristmill_session", default=None)
_OUTBOX = "gristmill_outbox"


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
    session = session or _ambient.get()
    if session is None:
        with autocommit() as connection:
            ids, due = _record(connection, jobs)
        send([nudge(each) for each in jobs if each.id in due])
    else:
        ids, due = _record(session, jobs)
        _outbox(session).extend(nudge(each) for each in jobs if each.id in due)
    return ids


def _record(on: ledger.Executor, jobs: Sequence[NewJob]) -> tuple[list[UUID], set[UUID]]:
    """Insert the rows; parameters that Postgres refuses (NaN, a NUL character) are the caller's mistake."""
    try:
        return ledger.submit(on, jobs)
    except DataError:
        for each in jobs:
            try:
                ledger.encode(each.params)
            except ledger.NotStorable as error:
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
        log.warning("nudges_not_sent", count=len(nudges), reason=str(error), remedy="the relay will send them")
        try:
            with autocommit() as connection:
                outbox.unsend(connection, [each.id for each in nudges])
        except PostgresError as away:  # the jobs are recorded all the same, and the relay misses their messages
            log.warning("nudges_not_marked", count=len(nudges), reason=str(away).split("\n")[0])
        return False
    return True


def _outbox(session: Session) -> list[Nudge]:
    if _OUTBOX not in session.info:
        session.info[_OUTBOX] = []
        event.listen(session, "after_commit", _after_commit)
        event.listen(session, "after_rollback", _after_rollback)
    outbox: list[Nudge] = session.info[_OUTBOX]
    return outbox


def _after_commit(session: Session) -> None:
    # Also fired when a savepoint is released: what it recorded is not committed yet.
    if session.in_nested_transaction():
        return
    nudges, session.info[_OUTBOX][:] = list(session.info[_OUTBOX]), []
    send(nudges)


def _after_rollback(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info[_OUTBOX].clear()
