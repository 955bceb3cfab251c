"""What a job that is due and not started waits behind: what runs on the queues of its class."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from db.read import Reader


@dataclass(frozen=True, slots=True)
class Ahead:
    """The job that has run there for the longest time; kind and id are None where nothing runs."""

    queue: str  # of the job that waits
    kind: str | None
    id: UUID | None
    running_s: float | None
    others: int  # that run there, too


# A worker of gpu takes jobs of gpu.edit, too. Few rows run, and job_lease is the partial index that finds them.
_AHEAD = text("""
    SELECT waits.queue, runs.kind, runs.id, CAST(extract(epoch FROM now() - runs.started_at) AS float8) AS running_s,
           greatest(count(*) OVER () - 1, 0) AS others
    FROM job AS waits LEFT JOIN job AS runs
        ON runs.state = 'STARTED' AND split_part(runs.queue, '.', 1) = split_part(waits.queue, '.', 1)
    WHERE waits.id = :id AND waits.state IN ('PENDING', 'RETRY') AND waits.run_at <= now()
    ORDER BY runs.started_at LIMIT 1""")


def ahead(on: Reader, job_id: UUID) -> Ahead | None:
    """None for a job that runs, is final, or is not yet due."""
    row = on.execute(_AHEAD, {"id": job_id}).mappings().first()
    return Ahead(**row) if row else None
