"""The beat scheduler: every tick of an entry is one job, however many beats are running and whenever they are killed.

A tick is a moment of the clock, the same for every beat, and its job's id is derived from the entry's name and that
moment: the second beat that submits it meets the first one's row. What ran last is read from the ledger too, so that
there is no file to lose or to fight over, and a beat may go on on another machine.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice, takewhile, tee
from typing import TypeVar
from uuid import NAMESPACE_OID, UUID, uuid5

import celery.beat
import structlog
from celery.beat import ScheduleEntry
from celery.schedules import crontab, schedule
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from broker.errors import GristmillError, Unavailable
from broker.job import find
from db.engine import autocommit
from db.job import Job
from db.ledger import DuplicateId

log = structlog.get_logger()
T = TypeVar("T")

RETRY_S = 2.0
# A beat that was held up, or follows one that was killed, submits every tick of so short a gap. Of a longer one only
# the last: nobody wants a night's worth of five-minute jobs at once.
CATCH_UP = timedelta(minutes=5)
_RECALLED = 8  # ticks before those: an entry of which none ran is a new one, whose last tick nobody has missed
_LONGEST_SEARCH = timedelta(days=366)


def due_at(when: schedule, now: datetime) -> datetime | None:
    """The latest moment, not after `now`, at which this schedule was due, the same for every beat that asks.

    None if there was none for a year.
    """
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
    return None


def ticks(when: schedule, now: datetime) -> Iterator[datetime]:
    """The moments at which this schedule was due, the latest first."""
    moment = due_at(when, now)
    while moment is not None:
        yield moment
        moment = due_at(when, moment - timedelta(microseconds=1))


def missed(when: schedule, last: datetime, now: datetime) -> list[datetime]:
    """The moments after `last` that are to be submitted now, the oldest first: see CATCH_UP."""
    since = takewhile(lambda moment: moment > last, ticks(when, now))
    return list(since if last > now - CATCH_UP else islice(since, 1))[::-1]


def tick_id(name: str, moment: datetime) -> UUID:
    """The id of the job of this tick."""
    return uuid5(NAMESPACE_OID, f"{name}@{moment.isoformat()}")


class Scheduler(celery.beat.Scheduler):
    """Submits jobs of the ledger. It needs no Redis: the relay sends what it recorded."""

    def setup_schedule(self) -> None:
        """Celery's entries, from where the last beat left off."""
        super().setup_schedule()
        self.recall()

    def recall(self) -> None:
        """Each entry goes on from the last of its ticks that the ledger knows; a new one from now."""
        now = datetime.now(UTC)
        for entry in self.schedule.values():
            entry.last_run_at = _outlasting(entry, partial(_last_known, entry, now)) or now

    def tick(self) -> float:
        """Submit what has come due; returns the seconds until more may be."""
        now = datetime.now(UTC)
        for entry in self.schedule.values():
            for moment in missed(entry.schedule, entry.last_run_at, now):
                _outlasting(entry, partial(_submit, entry, moment))
                entry.last_run_at = moment
        return min([self.max_interval, *(_until_next(entry.schedule) for entry in self.schedule.values())])


def _last_known(entry: ScheduleEntry, now: datetime) -> datetime | None:
    """The last tick that the ledger knows; None if it knows none of the recent ones."""
    recent, older = tee(ticks(entry.schedule, now))
    within = list(takewhile(lambda moment: moment > now - CATCH_UP, recent))
    moments = {tick_id(entry.name, each): each for each in islice(older, len(within) + _RECALLED)}
    with autocommit() as connection:
        known = connection.execute(select(Job.id).where(Job.id.in_(moments))).scalars()
        return max((moments[each] for each in known), default=None)


def _submit(entry: ScheduleEntry, moment: datetime) -> None:
    """The tick's job, unless another beat has submitted it. One that is refused does not keep the others from it."""
    job_id = str(tick_id(entry.name, moment))
    try:
        find(entry.task).apply_async(entry.args, entry.kwargs, task_id=job_id, **entry.options)
        log.info("tick", entry=entry.name, at=moment.isoformat(), job_id=job_id)
    except DuplicateId:
        log.debug("tick_taken", entry=entry.name, at=moment.isoformat(), job_id=job_id)
    except Unavailable:
        raise
    except (GristmillError, TypeError) as error:
        log.error("tick_refused", entry=entry.name, at=moment.isoformat(), reason=str(error))


def _outlasting(entry: ScheduleEntry, step: Callable[[], T]) -> T:
    """The step, when Postgres is there."""
    while True:
        try:
            return step()
        except (OperationalError, Unavailable) as error:
            log.warning("postgres_away", entry=entry.name, reason=str(error).split("\n")[0])
            time.sleep(RETRY_S)


def _until_next(when: schedule) -> float:
    """Seconds; a crontab has no moment within a minute."""
    period = 60.0 if isinstance(when, crontab) else max(1.0, when.run_every.total_seconds())
    return period - time.time() % period
