"""`ctx.finish`: what a job writes and its success are one commit."""

from collections.abc import Iterator

import psycopg
import pytest

from db.settings import settings
from tests.chaos import history
from tests.chaos.jobs import finish
from tests.processes import Process
from tests.rows import row, starts


@pytest.fixture
def effects(worker: Process) -> Iterator["psycopg.Connection[tuple[int]]"]:
    """A worker, and an empty table that the job writes its attempt to."""
    with psycopg.connect(settings().postgres_url().replace("+psycopg", "", 1), autocommit=True) as connection:
        history.create(connection)
        yield connection


def written(effects: "psycopg.Connection[tuple[int]]") -> list[int]:
    return [row[0] for row in effects.execute("SELECT serial FROM chaos_effect")]


@pytest.mark.parametrize("how", ["well", "dies", "raises"])
def test_whatever_happens_after_the_commit_the_job_has_succeeded_once(
    effects: "psycopg.Connection[tuple[int]]", how: str
) -> None:
    result = finish.submit(how=how)

    assert result.get(timeout=20) == "attempt 1"
    after = finish.submit()  # had the first one been tried again, then before this one is through
    assert after.get(timeout=30) == "attempt 1"
    assert (row(result.id).state, starts(result.id)) == ("SUCCESS", 1)
    assert written(effects) == [1, 1]


def test_a_success_whose_transaction_is_rolled_back_is_none(effects: "psycopg.Connection[tuple[int]]") -> None:
    result = finish.submit(how="rolled back")

    assert result.get(timeout=20) == "attempt 2"
    assert starts(result.id) == 2
    assert written(effects) == [2]


def test_finish_outside_of_a_session_is_refused_for_good(effects: "psycopg.Connection[tuple[int]]") -> None:
    result = finish.submit(how="outside")

    with pytest.raises(Exception, match=r"outside of ctx.session\(\): call it at the end of the block"):
        result.get(timeout=20)
    assert starts(result.id) == 1
