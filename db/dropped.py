"""Messages that were taken from a queue and could not be understood: recorded, then dropped."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Identity, Index, insert, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base
from db.ledger import Executor

KEPT = 10_000  # rows, the newest: whoever floods a queue must not fill the disk


class DroppedMessage(Base):
    """One such message: where it was, what was wrong with it, and its beginning."""

    __tablename__ = "dropped_message"
    __table_args__ = (Index("dropped_message_at", "at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))
    queue: Mapped[str]
    reason: Mapped[str]
    excerpt: Mapped[str]
    messages: Mapped[int] = mapped_column(server_default="1")  # how many it stands for: in a flood not each has a row


@dataclass(frozen=True, slots=True)
class Dropped:
    """What is recorded of a message; its text is storable (`db.storable.clean`)."""

    at: datetime
    queue: str
    reason: str
    excerpt: str
    messages: int = 1


_TRIM = text("DELETE FROM dropped_message WHERE id <= (SELECT max(id) FROM dropped_message) - :kept")

_NAMED = text("""
    SELECT DISTINCT job.id FROM job
    JOIN unnest(CAST(:ids AS uuid[]), CAST(:kinds AS varchar[])) AS named(id, kind) USING (id, kind)""")


def record(on: Executor, messages: Sequence[Dropped]) -> None:
    """Keep these, and of all only the newest."""
    if messages:
        on.execute(insert(DroppedMessage), [asdict(each) for each in messages])
        on.execute(_TRIM, {"kept": KEPT})


def recorded(on: Executor, named: Sequence[tuple[UUID, str]]) -> set[UUID]:
    """Which of these ids are of jobs of that kind: a message may name what was never submitted."""
    ids, kinds = [each[0] for each in named], [each[1] for each in named]
    return set(on.execute(_NAMED, {"ids": ids, "kinds": kinds}).scalars())
