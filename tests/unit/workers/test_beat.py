"""When a tick was due: the same moment for every beat that asks, against a search through every minute."""

from datetime import UTC, datetime, timedelta

import pytest
from celery.schedules import crontab, schedule
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.beat import due_at, tick_id

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
    found = due_at(when, now)

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


@given(MOMENTS, st.integers(0, 59))
def test_two_beats_that_wake_in_the_same_minute_name_the_same_tick(now: datetime, later_s: int) -> None:
    now = now.replace(second=0, microsecond=0)
    when = crontab(minute="*/5")

    assert tick_id("a", when, now) == tick_id("a", when, now + timedelta(seconds=later_s))
    assert tick_id("a", when, now) != tick_id("b", when, now)
    assert tick_id("a", when, now) != tick_id("a", when, now + timedelta(minutes=5))
