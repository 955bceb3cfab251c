"""Requests that may come twice: the second with a caller's key is answered with the jobs of the first."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Index, LargeBinary, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, Session, mapped_column

from db.base import Base

DAYS = 7  # for which a key is remembered


class IdempotencyKey(Base):
    """What a caller's key stands for."""

    __tablename__ = "idempotency_key"
    __table_args__ = (Index("idempotency_key_age", "created_at"),)

    caller: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)  # of the request
    job_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))


class OtherRequest(ValueError):
    """The key was used for another request."""


_FORGET = text("""
    WITH old AS MATERIALIZED (
        SELECT caller, key FROM idempotency_key WHERE created_at < now() - make_interval(days => :days)
        ORDER BY created_at LIMIT 100 FOR UPDATE SKIP LOCKED)
    DELETE FROM idempotency_key AS k USING old WHERE (k.caller, k.key) = (old.caller, old.key)""")

# One that is being used in another transaction is waited for.
_TAKE = text("""
    INSERT INTO idempotency_key (caller, key, fingerprint) VALUES (:caller, :key, :fingerprint)
    ON CONFLICT (caller, key) DO NOTHING RETURNING key""")

_FIND = text("SELECT fingerprint, job_ids FROM idempotency_key WHERE caller = :caller AND key = :key")

_KEEP = text("UPDATE idempotency_key SET job_ids = CAST(:ids AS uuid[]) WHERE caller = :caller AND key = :key")


def take(session: Session, caller: str, key: str, fingerprint: bytes) -> list[UUID] | None:
    """The jobs that this request was answered with before; None: it is the first, and `keep` must follow in the same
    transaction. Raises OtherRequest."""
    session.execute(_FORGET, {"days": DAYS})
    named = {"caller": caller, "key": key}
    if session.execute(_TAKE, {**named, "fingerprint": fingerprint}).first() is not None:
        return None
    kept = session.execute(_FIND, named).one()
    if bytes(kept.fingerprint) != fingerprint:
        raise OtherRequest(f"Idempotency-Key {key!r} was used for another request: take a new one for each request")
    return list(kept.job_ids or ())


def keep(session: Session, caller: str, key: str, job_ids: Sequence[UUID]) -> None:
    """What the request is answered with, should it come again."""
    session.execute(_KEEP, {"caller": caller, "key": key, "ids": list(job_ids)})
