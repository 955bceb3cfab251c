"""What a job's body may use while it runs: a small protocol, so that a body runs in a plain test without Celery."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID

from celery.result import AsyncResult
from pydantic import BaseModel
from sqlalchemy.orm import Session

from broker.job import Job
from db.store import ArtifactStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChildOutcome:
    """How one child of a fan-out ended: SUCCESS with its result, FAILURE or REVOKED with its error."""

    id: UUID
    state: str
    result: Any
    error: dict[str, Any] | None

    @property
    def reason(self) -> str:
        """Why it did not succeed."""
        return str((self.error or {}).get("message") or self.state)


class ResidentModels(Protocol):
    """Models that stay loaded in this process from one job to the next."""

    def get(self, key: str, load: Callable[[], T], memory_bytes: int = 0) -> T:
        """The model under this key (an artifact's digest), loaded now if it is not resident.

        memory_bytes: what it needs on the device. Where the sum would exceed GRISTMILL_MODEL_MEMORY, those that were
        least recently used make room (workers/models.py): so ask for a model again after asking for another. Raises
        JobError when it cannot fit at all.
        """
        ...


class Context(Protocol):
    """The job that is running, and what it may do.

    In a batch of several it is the context of the job that leads it: `progress` and `note` are written to that one's
    row, `session` holds that one's row, and `submit` makes children of it. The others live and die with their process
    all the same. No cancellation interrupts a batch (a cancelled job's result is dropped at the end), and what is about
    a single job's course (`finish`, `fan_out`, checkpoints) raises JobError.
    """

    job_id: UUID
    kind: str
    attempt: int
    device: str

    @property
    def stopping(self) -> bool:
        """Whether the worker is being stopped: save a checkpoint now, and the job goes on elsewhere from it."""
        ...

    @property
    def store(self) -> ArtifactStore:
        """The artifact store."""
        ...

    @property
    def models(self) -> ResidentModels:
        """The models of this process."""
        ...

    def progress(self, done: int, total: int, *, stage: str = "", message: str = "") -> None:
        """Record progress (at most a few times a second; the rest is dropped, and so is what comes within `session()`).

        Raises Cancelled when the job was cancelled, LeaseLost when another attempt holds it: let both pass.
        """
        ...

    def note(self, **facts: Any) -> None:
        """Keep facts about this run in the job's row, such as a batch that had to be halved: JSON values by name.

        They outlive the attempt. Like `progress`, dropped while Postgres is away, and raises LeaseLost.
        """
        ...

    def session(self) -> AbstractContextManager[Session]:
        """A transaction that commits only if this attempt still holds the job; raises LeaseLost otherwise.

        It holds the job's row, so keep it short: compute first, then write. Postgres ends it after two idle minutes.
        Within an open one it is that one.
        """
        ...

    def finish(self, result: T) -> T:
        """Within `session()`: the job's success becomes part of that transaction. Returns the result, to be returned.

        What was written there and the outcome are committed together or not at all. Without it, a process that dies
        between the two leaves a job that runs again, and writes again. Raises what `session()` does.
        """
        ...

    def submit(self, job: Job, params: BaseModel | Mapping[str, Any]) -> AsyncResult[Any]:
        """Enqueue another job, with this one as its parent."""
        ...

    def fan_out(
        self, job: Job, params: Sequence[BaseModel | Mapping[str, Any]], *, queue: str | None = None
    ) -> list[ChildOutcome]:
        """Run one child per item and return their outcomes in order, whatever is restarted in between.

        queue: instead of the one that the job is declared for.

        The first call records the children and ends this run of the body (raises Suspended: let it pass); the job
        then waits without a worker. When all children are final the body runs again from its top, and this call
        returns. So what comes before it must be cheap and give the same items.
        """
        ...

    def save_checkpoint(self, folder: Path) -> None:
        """Keep a copy of the folder for a later attempt, on whatever machine; replaces the one before, atomically.

        When the worker is being stopped the run ends here (raises HandedOver: let it pass), and the job goes on
        elsewhere from this checkpoint, uncharged.
        """
        ...

    def load_checkpoint(self) -> Path | None:
        """The folder that an earlier attempt saved, or None."""
        ...
