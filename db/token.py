"""Tokens of the web door: who may do what. Only a digest of each is kept: a token is seen once, when it is made."""

import hashlib
import secrets
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import DateTime, Index, LargeBinary, String, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from db.base import Base

READ: Final = "read"  # jobs, models, recommendations, artifacts
SUBMIT: Final = "submit"  # submit, cancel and retry jobs; predict
ADMIN: Final = "admin"  # all of it; also which version of a model is in use, and tracebacks
SCOPES: Final = (READ, SUBMIT, ADMIN)
PREFIX: Final = "gm_"  # so that scanners for leaked secrets, and people, know one when they see it
_BYTES = 32  # of randomness: nothing to guess, so that a plain digest is enough

_timestamp = DateTime(timezone=True)


class ApiToken(Base):
    """One token. Revoked ones stay, so that a name in a log says whose it was."""

    __tablename__ = "api_token"
    __table_args__ = (Index("api_token_live_name", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String))
    created_at: Mapped[datetime] = mapped_column(_timestamp, server_default=text("now()"))
    expires_at: Mapped[datetime | None] = mapped_column(_timestamp)
    revoked_at: Mapped[datetime | None] = mapped_column(_timestamp)


class TokenError(ValueError):
    """A token that cannot be made or revoked; the message names the value and the remedy."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a valid token stands for."""

    id: uuid.UUID
    name: str
    scopes: frozenset[str]


def create(session: Session, name: str, scopes: Collection[str], lifetime: timedelta | None = None) -> str:
    """A new token: the only time that it is seen. Raises TokenError."""
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise TokenError(f"name={name[:100]!r}: give a name of 1 to 100 printable characters, such as the app's")
    if unknown := sorted({*scopes} - {*SCOPES}):
        raise TokenError(f"scope={unknown[0]!r}: use {', '.join(SCOPES)}")
    if not scopes:
        raise TokenError(f"a token without a scope may do nothing: give one or more of {', '.join(SCOPES)}")
    if lifetime is not None and lifetime <= timedelta(0):
        raise TokenError(f"a lifetime of {lifetime}: give one of more than nothing, or none")
    secret = PREFIX + secrets.token_urlsafe(_BYTES)
    kept = [each for each in SCOPES if each in scopes]
    expires_at = None if lifetime is None else datetime.now(UTC) + lifetime
    session.add(ApiToken(id=uuid.uuid4(), name=name, digest=_digest(secret), scopes=kept, expires_at=expires_at))
    try:
        session.flush()
    except IntegrityError:
        raise TokenError(f"a token named {name!r} is in use: revoke it first, or take another name") from None
    return secret


def holder(session: Session, secret: str) -> Holder | None:
    """Whom this token stands for; None if it was never made, is revoked or has expired.

    Found by its digest: how long that takes says nothing about the token.
    """
    statement = select(ApiToken).where(
        ApiToken.digest == _digest(secret),
        ApiToken.revoked_at.is_(None),
        ApiToken.expires_at.is_(None) | (ApiToken.expires_at > text("now()")),
    )
    found = session.scalars(statement).one_or_none()
    return None if found is None else Holder(found.id, found.name, frozenset(found.scopes))


def listed(session: Session) -> list[ApiToken]:
    """All that were ever made, the newest first."""
    return list(session.scalars(select(ApiToken).order_by(ApiToken.created_at.desc(), ApiToken.id)))


def revoke(session: Session, name: str) -> None:
    """End the token of this name. Raises TokenError when there is none."""
    ended = session.scalars(
        update(ApiToken)
        .where(ApiToken.name == name, ApiToken.revoked_at.is_(None))
        .values(revoked_at=text("now()"))
        .returning(ApiToken.id)
    )
    if ended.first() is None:
        raise TokenError(f"no token named {name!r} is in use: `gristmill tokens list` shows them")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
