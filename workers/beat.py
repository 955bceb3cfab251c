"""The beat scheduler: every tick of an entry is one job, however many beats are running.

The job's id is derived from the entry's name and the moment that the tick was due, so a second beat's submission of the
same tick meets the first one's row and is dropped.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import structlog
from celery.beat import PersistentScheduler, ScheduleEntry
from celery.schedules import crontab, schedule
from sqlalchemy.exc import OperationalError

from broker.job import Job
from db.ledger import DuplicateId

log = structlog.get_logger()

RETRY_S = 2.0
_LONGEST_SEARCH = timedelta(days=366)


def due_at(when: schedule, now: datetime) -> datetime:
    """The latest moment, not after `now`, at which this schedule was due: the same for every beat that asks."""
    if not isinstance(when, crontab):
        seconds = max(1.0, when.run_every.total_seconds())
        return datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)
    day = now.replace(second=0, microsecond=0)
    limit = day - _LONGEST_SEARCH
    while day > limit:
        if (
            day.month in when.month_of_year
            and day.day in when.day_of_month
            and day.isoweekday() % 7 in when.day_of_week
        ):
            for hour in sorted((h for h in when.hour if h <= day.hour), reverse=True):
                last = day.minute if hour == day.hour else 59
                if minutes := [m for m in when.minute if m <= last]:
                    return day.replace(hour=hour, minute=max(minutes))
        day = (day - timedelta(days=1)).replace(hour=23, minute=59)
    return limit


def tick_id(name: str, when: schedule, now: datetime) -> UUID:
    """The id of the job of this tick."""
    return uuid5(NAMESPACE_OID, f"{name}@{due_at(when, now).isoformat()}")


class Scheduler(PersistentScheduler):
    """Celery's scheduler (its file remembers the last runs, so that a tick missed while down is made up for)."""

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Submit the entry's tick, unless another beat has; waits while Postgres is away, where Celery drops it."""
        task = self.app.tasks.get(entry.task)
        if not isinstance(task, Job):
            return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        job_id = tick_id(entry.name, entry.schedule, datetime.now(UTC))
        entry = self.reserve(entry) if advance else entry
        while True:
            try:
                return task.apply_async(entry.args, entry.kwargs, task_id=str(job_id), **entry.options)
            except DuplicateId:
                log.info("tick_taken", entry=entry.name, job_id=str(job_id))
                return self.app.AsyncResult(str(job_id))
            except OperationalError as error:
                log.warning("postgres_away", entry=entry.name, reason=str(error).split("\n")[0])
                time.sleep(RETRY_S)
