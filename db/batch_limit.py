"""The largest batch of each model that fitted into each kind of device: what one job learned, the next begins with."""

from datetime import datetime

from sqlalchemy import DateTime, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base
from db.ledger import Executor

# Then one job tries the whole batch again. To find a limit costs a few failed tries; to keep one that was met while
# something else held the memory would make every job slow.
_HOLDS = "interval '1 day'"


class BatchLimit(Base):
    """One model on one kind of device."""

    __tablename__ = "batch_limit"

    model: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    batch: Mapped[int]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))


_FITTED = text(f"""
    SELECT batch FROM batch_limit WHERE model = :model AND device = :device AND at > now() - {_HOLDS}""")

_REMEMBER = text("""
    INSERT INTO batch_limit (model, device, batch) VALUES (:model, :device, :batch)
    ON CONFLICT (model, device) DO UPDATE SET batch = excluded.batch, at = now()""")

_FORGET = text(f"DELETE FROM batch_limit WHERE at < now() - {_HOLDS}")


def fitted(on: Executor, model: str, device: str) -> int | None:
    """The batch that fitted lately; None when none is known to have not fitted."""
    return on.execute(_FITTED, {"model": model, "device": device}).scalar()


def remember(on: Executor, model: str, device: str, batch: int) -> None:
    """This batch fitted, and the next larger did not."""
    on.execute(_FORGET)
    on.execute(_REMEMBER, {"model": model, "device": device, "batch": batch})
