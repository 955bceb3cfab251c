"""Who goes first: priorities overtake, and nobody's ten thousand jobs starve another's one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from broker.app import app
from broker.publish import lengths
from broker.settings import settings
from db.engine import autocommit
from tests import jobs
from tests.processes import Process, start_relay, start_worker

CONCURRENCY = 2


@pytest.fixture
def worker(quiet: Path) -> Iterator[Process]:
    relay = start_relay(quiet)
    process = start_worker(quiet, name="fair", concurrency=CONCURRENCY)
    yield process
    process.stop()
    relay.stop()


def started_between(first: str, second: str) -> int:
    """How many other jobs were started after `first` was submitted and before `second` started."""
    with autocommit() as connection:
        return connection.execute(
            text("""
            SELECT count(*) FROM job_event
            WHERE to_state = 'STARTED' AND job_id <> :second
              AND at > (SELECT created_at FROM job WHERE id = :first)
              AND at < (SELECT min(at) FROM job_event WHERE job_id = :second AND to_state = 'STARTED')"""),
            {"first": first, "second": second},
        ).scalar_one()


def test_ten_thousand_jobs_of_one_owner_do_not_starve_another_s_one(
    worker: Process, full: bool, figure: Callable[[int, str], None]
) -> None:
    many = 10_000 if full else 500
    first = jobs.add.submit_many([{"x": n} for n in range(many)], owner="alice")
    app.AsyncResult(first[0]).get(timeout=60)

    single = jobs.add.apply_async((1,), owner="bob")
    single.get(timeout=60)

    window = settings().owner_window
    ahead = started_between(single.id, single.id)
    assert ahead <= window + CONCURRENCY
    figure(
        19, f"jobs of another owner ahead of one, {many:,} waiting: {ahead} (bound {window} + {CONCURRENCY} running)"
    )
    app.AsyncResult(first[-1]).get(timeout=170)


def test_the_window_is_all_that_an_owner_has_in_redis(quiet: Path) -> None:
    jobs.add.submit_many([{"x": n} for n in range(100)], owner="alice")
    jobs.add.submit_many([{"x": n} for n in range(3)], owner="bob")
    jobs.add.submit_many([{"x": n} for n in range(5)])

    assert lengths(["cpu"]) == {"cpu": settings().owner_window + 3 + 5}


def test_an_interactive_job_overtakes_hundreds_of_bulk(worker: Process, figure: Callable[[int, str], None]) -> None:
    bulk = jobs.add.submit_many([{"x": n} for n in range(400)], priority="bulk")
    app.AsyncResult(bulk[0]).get(timeout=60)

    urgent = jobs.add.apply_async((1,), priority="interactive")
    urgent.get(timeout=60)

    ahead = started_between(urgent.id, urgent.id)
    assert ahead <= 2 * CONCURRENCY
    figure(19, f"bulk jobs started before an interactive one, 400 waiting: {ahead}")
