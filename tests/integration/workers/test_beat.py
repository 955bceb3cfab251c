"""Beats over one ledger, which is all that they remember."""

from datetime import UTC, datetime
from typing import Any

import pytest
from celery.schedules import schedule
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from broker.app import app
from broker.job import Job as Task
from db.engine import session
from db.job import Job
from tests.jobs import add, echo
from workers import beat
from workers.beat import Scheduler, tick_id

pytestmark = pytest.mark.usefixtures("clean_db")

HOURLY = {"every-hour": {"task": add.name, "schedule": schedule(3600), "kwargs": {"x": 1}}}
NOON = datetime(2026, 11, 22, 12, 0, 1, tzinfo=UTC)


class Clock(datetime):
    """A clock that the test sets."""

    time = NOON

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return cls.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(beat, "datetime", Clock)
    monkeypatch.setattr(Clock, "time", NOON)
    return Clock


def scheduler(entries: dict[str, dict[str, Any]]) -> Scheduler:
    made = Scheduler(app, lazy=True)
    made.merge_inplace(entries)
    made.recall()
    return made


def ticks() -> set[str]:
    with session() as opened:
        return {str(each) for each in opened.scalars(select(Job.id))}


def hourly(*hours: int) -> set[str]:
    return {str(tick_id("every-hour", datetime(2026, 11, 22, hour, tzinfo=UTC))) for hour in hours}


def test_two_beats_submit_each_tick_once(clock: type[Clock]) -> None:
    beats = [scheduler(HOURLY) for _ in range(2)]
    assert ticks() == set()  # an entry that is new has missed nothing

    for hour in (13, 14):
        clock.time = NOON.replace(hour=hour)
        for each in [*beats, *beats]:
            each.tick()

    assert ticks() == hourly(13, 14)


def test_a_beat_that_follows_another_makes_up_for_the_last_tick_that_was_missed(clock: type[Clock]) -> None:
    first = scheduler(HOURLY)
    clock.time = NOON.replace(hour=13)
    first.tick()

    clock.time = NOON.replace(hour=17, minute=30)
    scheduler(HOURLY).tick()

    assert ticks() == hourly(13, 17)


def test_a_tick_that_finds_postgres_away_is_submitted_when_it_is_back(
    clock: type[Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    outages = [OperationalError("", {}, Exception("away"))] * 2
    submit = Task.apply_async

    def away_at_first(self: Any, *args: Any, **options: Any) -> Any:
        if outages:
            raise outages.pop()
        return submit(self, *args, **options)

    monkeypatch.setattr(Task, "apply_async", away_at_first)
    monkeypatch.setattr(beat, "RETRY_S", 0)
    one = scheduler(HOURLY)
    clock.time = NOON.replace(hour=13)

    one.tick()

    assert ticks() == hourly(13)


def test_an_entry_that_is_refused_does_not_keep_the_others_from_running(clock: type[Clock]) -> None:
    wrong = [
        {"task": "no.such", "schedule": schedule(3600)},
        {"task": echo.name, "schedule": schedule(3600), "kwargs": {"valu": 1}},
        {"task": echo.name, "schedule": schedule(3600), "options": {"retries": 9}},
    ]
    one = scheduler({str(number): entry for number, entry in enumerate(wrong)} | HOURLY)
    clock.time = NOON.replace(hour=13)

    one.tick()

    assert ticks() == hourly(13)
