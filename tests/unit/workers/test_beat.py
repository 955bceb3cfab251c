"""When a tick was due: the same moment for every beat that asks; and what a beat that was held up makes up for."""

from datetime import UTC, datetime, timedelta

import pytest
from celery.schedules import crontab, schedule
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.beat import due_at, missed, tick_id

MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2028, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))


def some(low: int, high: int) -> st.SearchStrategy[str]:
    few = st.lists(st.integers(low, high), min_size=1, max_size=3).map(lambda values: ",".join(map(str, values)))
    return st.just("*") | few | st.integers(2, 6).map(lambda step: f"*/{step}")


CRONTABS = st.builds(crontab, minute=some(0, 59), hour=some(0, 23), day_of_week=some(0, 6), day_of_month=some(1, 28))


def matches(when: crontab, at: datetime) -> bool:
    return (
        at.minute in when.minute and at.hour in when.hour and at.isoweekday() % 7 in when.day_of_week
        and at.day in when.day_of_month and at.month in when.month_of_year
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(CRONTABS, MOMENTS)
def test_it_is_the_last_minute_that_matches(when: crontab, now: datetime) -> None:
    found = due_at(when, now) or now - timedelta(days=366)

    assert found <= now
    assert matches(when, found) or now - found >= timedelta(days=365)
    minute = now.replace(second=0, microsecond=0)
    for _ in range(2 * 24 * 60):  # nothing between matches, as far back as is quick to look
        if minute <= found:
            break
        assert not matches(when, minute)
        minute -= timedelta(minutes=1)


@pytest.mark.parametrize(
    ("when", "now", "due"),
    [
        (crontab(minute=0, hour=3, day_of_week="sunday"), "2026-11-22T02:59:59", "2026-11-15T03:00"),
        (crontab(minute=0, hour=3, day_of_week="sunday"), "2026-11-22T03:00:00", "2026-11-22T03:00"),
        (crontab(minute=30, hour=4), "2026-01-01T00:00:00", "2025-12-31T04:30"),
        (crontab(minute=0, hour=0, day_of_month=29, month_of_year=2), "2024-12-01T00:00:00", "2024-02-29T00:00"),
        (crontab(minute="*/5"), "2026-11-22T10:04:59.999", "2026-11-22T10:00"),
        (schedule(timedelta(seconds=30)), "2026-11-22T10:04:59", "2026-11-22T10:04:30"),
    ],
)
def test_known_moments(when: schedule, now: str, due: str) -> None:
    assert due_at(when, datetime.fromisoformat(f"{now}+00:00")) == datetime.fromisoformat(f"{due}+00:00")


def test_what_was_not_due_for_a_year_is_not_due() -> None:
    leap_day = crontab(minute=0, hour=0, day_of_month=29, month_of_year=2)

    assert due_at(leap_day, datetime(2026, 3, 1, tzinfo=UTC)) is None
    assert missed(leap_day, datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)) == []


def at(time: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-22T{time}+00:00")


@pytest.mark.parametrize(
    ("when", "last", "now", "due"),
    [
        (schedule(1), "10:00:07", "10:00:07.9", []),
        (schedule(1), "10:00:07", "10:00:08", ["10:00:08"]),
        (schedule(1), "10:00:07.5", "10:00:10.2", ["10:00:08", "10:00:09", "10:00:10"]),  # held up: each is made up for
        (schedule(1), "09:00:00", "10:00:10.2", ["10:00:10"]),  # away for long: only the last
        (crontab(minute="*/5"), "10:00", "10:05", ["10:05"]),
        (crontab(minute="*/5"), "10:04:59", "10:05", ["10:05"]),
        (crontab(minute="*"), "10:00:00", "10:02:30", ["10:01", "10:02"]),
        (crontab(minute="*/5"), "09:00", "10:07", ["10:05"]),
        (crontab(minute=0, hour=3), "03:00", "23:00", []),
    ],
)
def test_what_was_missed(when: schedule, last: str, now: str, due: list[str]) -> None:
    assert missed(when, at(last), at(now)) == [at(each) for each in due]


def test_a_tick_is_named_after_its_entry_and_its_moment() -> None:
    assert tick_id("a", at("10:00")) == tick_id("a", at("10:00"))
    assert len({tick_id(name, at(time)) for name in "ab" for time in ("10:00", "10:05")}) == 4
