"""What the ledger says of a job, for tests; and how to begin with no rows."""

import psycopg
from psycopg import sql
from sqlalchemy import select

from broker.settings import make_client
from db.engine import session
from db.job import Job, JobEvent
from db.settings import settings


def row(job_id: str) -> Job:
    """The job's row."""
    with session() as opened:
        return opened.scalars(select(Job).where(Job.id == job_id)).one()


def starts(job_id: str) -> int:
    """How often the job was started."""
    with session() as opened:
        events = opened.scalars(select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.to_state == "STARTED"))
        return len(list(events))


def wipe() -> None:
    """No rows and no keys any more."""
    with psycopg.connect(settings().postgres_url().replace("+psycopg", "", 1), autocommit=True) as connection:
        found = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        ).fetchall()
        if found:
            names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in found)
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))
    with make_client() as client:
        client.flushall()
