"""Messages that were taken from a queue and could not be understood: recorded, then dropped."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base


class DroppedMessage(Base):
    """One such message: where it was, what was wrong with it, and its beginning."""

    __tablename__ = "dropped_message"
    __table_args__ = (Index("dropped_message_at", "at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))
    queue: Mapped[str]
    reason: Mapped[str]
    excerpt: Mapped[str]
