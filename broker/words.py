"""How jobs and lengths of time read to a person, in a terminal and on a page."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from db.read import JobDetail, JobRow

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
_NOTICEABLE = 0.9


def span(seconds: float) -> str:
    """A length of time in the unit that fits."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s" if seconds >= 10 else f"{max(seconds, 0):.1f} s"


# What ended an attempt that was not charged.
SPARED = {"Suspended": "waited for its children", "GivenBack": "handed over"}


def took_s(job: JobRow) -> float | None:
    """How long it took since its first start, or has taken; None where it was not started, or does not run yet."""
    return _since(job, job.began_at)


def attempt_s(job: JobRow) -> float | None:
    """The same since its last start."""
    return _since(job, job.started_at)


def worked_s(job: JobDetail) -> float | None:
    """How much of that its attempts ran, where it was noticeably less: it waited for its children, or to try again."""
    if (whole := took_s(job)) is None:
        return None
    ran = sum(each.took_s or 0 for each in job.history if each.from_state == "STARTED")
    worked = ran + (attempt_s(job) or 0 if job.state == "STARTED" else 0)
    return worked if worked < _NOTICEABLE * whole else None


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


def _since(job: JobRow, start: datetime | None) -> float | None:
    if start is None or (job.finished_at is None and job.state != "STARTED"):
        return None
    return ((job.finished_at or datetime.now(UTC)) - start).total_seconds()
