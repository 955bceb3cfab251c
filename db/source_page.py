"""What remote sources of histories answered, kept until it expires, so that no worker asks twice."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, DateTime, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from db.base import Base
from db.storable import clean as clean_text

Executor = Session | Connection


class SourcePage(Base):
    """One answer: the page of a list, or one item of a page that answered for many."""

    __tablename__ = "source_page"
    __table_args__ = (Index("source_page_expiry", "expires_at"),)

    key: Mapped[str] = mapped_column(primary_key=True)  # of what was asked: see `key`
    source: Mapped[str]
    body: Mapped[Any] = mapped_column(JSONB)
    fetched_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


_READ = text("""
    SELECT key, body FROM source_page WHERE key = ANY(:keys) AND expires_at > now()
    AND (CAST(:since AS timestamptz) IS NULL OR fetched_at >= :since)""")

_PUT = text("""
    INSERT INTO source_page (key, source, body, expires_at)
    SELECT key, :source, body, now() + make_interval(secs => :seconds)
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(key varchar, body jsonb)
    ON CONFLICT (key) DO UPDATE SET
        body = excluded.body, fetched_at = excluded.fetched_at, expires_at = excluded.expires_at""")

# What is being fetched anew meanwhile is passed over.
_CLEAN = text("""
    DELETE FROM source_page WHERE key = ANY(ARRAY(
        SELECT key FROM source_page WHERE expires_at < now() FOR UPDATE SKIP LOCKED))""")


def key(*asked: Any) -> str:
    """sha256 of what was asked: address, query, variables."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def read(on: Executor, keys: Sequence[str], since: datetime | None = None) -> dict[str, Any]:
    """The bodies that have not expired, by key; `since`: only what was fetched then or later."""
    return {row.key: row.body for row in on.execute(_READ, {"keys": list(keys), "since": since})}


def put(on: Executor, source: str, bodies: Mapping[str, Any], lifetime_s: float) -> None:
    """Keep these answers, which are storable, for so many seconds from now."""
    if bodies:
        rows = [{"key": each, "body": bodies[each]} for each in sorted(bodies)]  # one order: no deadlocks
        on.execute(_PUT, {"source": source, "rows": json.dumps(rows), "seconds": lifetime_s})


def clean(on: Executor) -> int:
    """Delete what has expired; returns how many."""
    return on.execute(_CLEAN).rowcount  # type: ignore[attr-defined]


def storable(value: Any) -> Any:
    """An answer without what JSON may hold and jsonb may not, such as NUL."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(name): storable(each) for name, each in value.items()}
    return [storable(each) for each in value] if isinstance(value, list) else value
