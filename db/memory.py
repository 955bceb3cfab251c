"""What memory workers use: of their devices and of the host, as each last said."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, DateTime, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base
from db.ledger import Executor

FRESH_S = 60.0  # a worker says it every SAY_S; one that is silent for longer is gone
SAY_S = 15.0


class WorkerMemory(Base):
    """One device of one worker. Unlogged: after a crash of Postgres the workers say it again."""

    __tablename__ = "worker_memory"
    __table_args__ = {"prefixes": ["UNLOGGED"]}

    worker: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    used_bytes: Mapped[int] = mapped_column(BigInteger)
    total_bytes: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))


@dataclass(frozen=True, slots=True)
class Used:
    """A device of a worker, "host" for the machine's own memory."""

    worker: str
    device: str
    used_bytes: int
    total_bytes: int

    @property
    def share(self) -> float:
        """Of what there is."""
        return self.used_bytes / self.total_bytes if self.total_bytes else 0.0


_SAY = text("""
    INSERT INTO worker_memory (worker, device, used_bytes, total_bytes) VALUES (:worker, :device, :used, :total)
    ON CONFLICT (worker, device) DO UPDATE
    SET used_bytes = excluded.used_bytes, total_bytes = excluded.total_bytes, at = now()""")
_FORGET = text("DELETE FROM worker_memory WHERE worker = :worker OR at < now() - make_interval(secs => :older_s)")
_USED = text("""
    SELECT worker, device, used_bytes, total_bytes FROM worker_memory
    WHERE at > now() - make_interval(secs => :fresh_s) ORDER BY worker, device""")


def say(on: Executor, found: Sequence[Used]) -> None:
    """Replace what was said of these devices."""
    for each in found:
        values = {"worker": each.worker, "device": each.device, "used": each.used_bytes, "total": each.total_bytes}
        on.execute(_SAY, values)


def forget(on: Executor, worker: str) -> None:
    """This worker is gone, and so is whoever has been silent for long."""
    on.execute(_FORGET, {"worker": worker, "older_s": 10 * FRESH_S})


def used(on: Executor) -> list[Used]:
    """What was said lately."""
    return [Used(*row) for row in on.execute(_USED, {"fresh_s": FRESH_S})]
