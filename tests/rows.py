"""What the ledger says of a job, for tests."""

from sqlalchemy import select

from db.engine import session
from db.job import Job, JobEvent


def row(job_id: str) -> Job:
    """The job's row."""
    with session() as opened:
        return opened.scalars(select(Job).where(Job.id == job_id)).one()


def starts(job_id: str) -> int:
    """How often the job was started."""
    with session() as opened:
        events = opened.scalars(select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.to_state == "STARTED"))
        return len(list(events))
