"""Two beats over one ledger."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.schedules import schedule
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from broker.app import app
from broker.job import Job as Task
from db.engine import session
from db.job import Job
from tests.jobs import add
from workers import beat

pytestmark = pytest.mark.usefixtures("clean_db")

ENTRY = {"every-hour": {"task": add.name, "schedule": schedule(timedelta(hours=1)), "kwargs": {"x": 1}}}


def scheduler(folder: Path, name: str) -> beat.Scheduler:
    made = beat.Scheduler(app, schedule_filename=str(folder / name), lazy=False)
    made.merge_inplace(ENTRY)
    return made


def count() -> int:
    with session() as opened:
        return opened.scalar(select(func.count()).select_from(Job).where(Job.kind == "tests.add")) or 0


def test_two_beats_submit_one_tick_once(tmp_path: Path) -> None:
    beats = [scheduler(tmp_path, "one"), scheduler(tmp_path, "two")]

    results = [each.apply_async(each.schedule["every-hour"]) for each in beats for _ in range(2)]

    assert len({result.id for result in results}) == 1
    assert count() == 1


def test_a_tick_that_finds_postgres_away_is_submitted_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outages = [OperationalError("", {}, Exception("away"))] * 2
    submit = Task.apply_async

    def away_at_first(self: Any, *args: Any, **options: Any) -> Any:
        if outages:
            raise outages.pop()
        return submit(self, *args, **options)

    monkeypatch.setattr(Task, "apply_async", away_at_first)
    monkeypatch.setattr(beat, "RETRY_S", 0)
    one = scheduler(tmp_path, "one")

    one.apply_async(one.schedule["every-hour"])

    assert count() == 1
