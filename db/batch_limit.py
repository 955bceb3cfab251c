"""The largest batch of each model that fitted into each device's memory: what one job learned helps the next."""

from datetime import datetime

from sqlalchemy import DateTime, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base


class BatchLimit(Base):
    """One model on one kind of device."""

    __tablename__ = "batch_limit"

    model: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    batch: Mapped[int]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))
