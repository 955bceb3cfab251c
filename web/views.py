"""What the API shows of jobs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from broker.queues import PRIORITIES
from broker.words import SPARED
from db.read import Event, JobDetail, JobRow
from db.state import STARTED

State = Literal["PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED"]
Priority = Literal["interactive", "normal", "bulk"]
_NAMES = {step: name for name, step in PRIORITIES.items()}


class Shown(BaseModel):
    """Made of rows."""

    model_config = ConfigDict(from_attributes=True, ser_json_inf_nan="null")


class JobSummary(Shown):
    """One line of the list of jobs. run_at is null for one that waits for its children; began_at is its first start,
    started_at its last; message is the last error's."""

    id: UUID
    kind: str
    state: State
    queue: str
    priority: str
    owner: str | None
    attempt: int
    max_attempts: int
    created_at: datetime
    run_at: datetime | None
    began_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    progress: dict[str, Any] | None
    message: str | None
    cancel_requested: bool


class JobShown(JobSummary):
    """All that is known of one job. The traceback of its error is shown to tokens with the scope admin."""

    params: dict[str, Any]
    key: str | None
    result: Any
    error: dict[str, Any] | None
    notes: dict[str, Any] | None
    expires_at: datetime | None
    time_limit_s: float | None
    parent_id: UUID | None
    root_id: UUID | None
    children: dict[str, int] = Field(description="Of its fan-out, by state.")


class Transition(Shown):
    """One step of a job's history. took_s: how long it had waited since it was due, or how long it had run."""

    at: datetime
    from_state: State | None
    to_state: State
    attempt: int
    worker: str | None
    error: str | None
    took_s: float | None


class Attempt(Shown):
    """One start of a job, and how that ended; null while it runs. attempt: how many starts there were."""

    attempt: int
    number: int = Field(
        description="As it is compared with max_attempts: a start that was spared counts with the next."
    )
    worker: str | None
    started_at: datetime
    ended_at: datetime | None = None
    ended: State | None = None
    error: str | None = None
    took_s: float | None = None
    spared: str | None = Field(default=None, description="Why it is not compared with max_attempts.")


class Page(Shown):
    """Some of the list of jobs, the newest first."""

    jobs: list[JobSummary]
    next: str | None = Field(description="The cursor of what comes after; null: nothing does.")


def summary(row: JobRow) -> JobSummary:
    """A row as it is shown."""
    return JobSummary.model_validate(_named(row), from_attributes=True)


def shown(row: JobDetail, *, traceback: bool) -> JobShown:
    """A job as it is shown."""
    made = JobShown.model_validate(_named(row), from_attributes=True)
    if made.error and not traceback:
        made.error = {name: value for name, value in made.error.items() if name != "traceback"}
    return made


def attempts(history: Sequence[Event]) -> list[Attempt]:
    """The starts in a history."""
    found: list[Attempt] = []
    for event in history:
        if event.to_state == STARTED:
            found.append(Attempt(attempt=event.attempt, number=event.number, worker=event.worker, started_at=event.at))
        elif found and event.from_state == STARTED:
            ended = {"ended_at": event.at, "ended": event.to_state, "error": event.error, "took_s": event.took_s}
            spared = SPARED.get(event.cause or "")
            found[-1] = found[-1].model_copy(update=ended | {"spared": spared})
    return found


def _named(row: JobRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in type(row).__dataclass_fields__}
    return {**values, "priority": _NAMES.get(row.priority, str(row.priority))}
