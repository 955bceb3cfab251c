"""How jobs and lengths of time read to a person, in a terminal and on a page."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from db.read import JobRow

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def span(seconds: float) -> str:
    """A length of time in the unit that fits."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s" if seconds >= 10 else f"{max(seconds, 0):.1f} s"


def took_s(job: JobRow) -> float | None:
    """For how long the last attempt ran, or has been running; None where none has begun."""
    if job.started_at is None or (job.finished_at is None and job.state != "STARTED"):
        return None
    return ((job.finished_at or datetime.now(UTC)) - job.started_at).total_seconds()


def note(job: JobRow, error: Callable[[str], str], progress: Callable[[dict[str, Any] | None], str]) -> str:
    """What is worth knowing at a glance: how far it is, what it waits for, why it failed.

    error, progress: how the message of the last error and a job's progress are shown.
    """
    if job.state in ("FAILURE", "RETRY") and job.message:
        return error(job.message)
    if job.state == "PENDING" and job.run_at is None:
        return "waits for its children"
    if job.state == "PENDING" and job.run_at and job.run_at > datetime.now(UTC):
        return f"due in {span((job.run_at - datetime.now(UTC)).total_seconds())}"
    if job.state == "STARTED":
        return ", ".join(filter(None, (progress(job.progress), "asked to stop" if job.cancel_requested else "")))
    return ""
