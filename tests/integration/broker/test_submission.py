"""What a submission records, when its message goes, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from broker.errors import InvalidParams
from broker.publish import lengths, queued_ids
from broker.submit import within
from db.engine import session
from db.job import Job, JobEvent
from tests.jobs import add, echo, keyed, nothing

pytestmark = pytest.mark.usefixtures("clean_db")


def rows() -> list[Job]:
    with session() as opened:
        return list(opened.scalars(select(Job).order_by(Job.created_at)))


def test_a_submission_is_one_row_and_one_message() -> None:
    result = add.submit(x=2)

    (row,) = rows()
    assert str(row.id) == result.id
    assert (row.kind, row.state, row.params, row.queue) == ("tests.add", "PENDING", {"x": 2, "y": 1}, "cpu")
    assert row.sent_at is not None
    assert queued_ids("cpu") == {row.id}


def test_every_transition_is_in_the_history() -> None:
    result = add.submit(x=2)
    result.revoke()

    with session() as opened:
        events = opened.execute(select(JobEvent.from_state, JobEvent.to_state).order_by(JobEvent.id)).all()
    assert [tuple(each) for each in events] == [(None, "PENDING"), ("PENDING", "REVOKED")]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: add.submit(x="two"), 'tests.add: x="two": input should be a valid integer'),
        (lambda: add.submit(xx=1), "tests.add: unknown parameter xx: did you mean x?"),
        (lambda: add.submit(), "tests.add: x is required: the parameters are x, y"),
        (lambda: add.delay(1, 2, 3), "tests.add takes x, y, but 3 positional arguments were given"),
        (lambda: keyed.submit(name=""), 'tests.keyed: name="": string should have at least 1 character'),
        (lambda: keyed.submit(name="x" * 2_000_000), "the limit is 1,048,576"),
        (lambda: add.apply_async((1,), priority="urgent"), "priority='urgent': use one of interactive, normal, bulk"),
    ],
)
def test_bad_parameters_are_refused_in_one_line_and_nothing_is_recorded(call: Callable[[], object], line: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        call()

    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
    assert rows() == []


def test_one_bad_item_refuses_the_whole_of_submit_many() -> None:
    with pytest.raises(InvalidParams):
        add.submit_many([{"x": 1}, {"x": "no"}])

    assert rows() == []


def test_the_same_key_is_live_once_and_free_again_when_that_job_is_final() -> None:
    first = keyed.submit(name="a")
    second = keyed.submit(name="a")
    first.revoke()
    third = keyed.submit(name="a")

    assert first.id == second.id
    assert third.id != first.id
    assert len(rows()) == 2


def test_submit_many_answers_in_order_with_live_and_new_jobs() -> None:
    live = keyed.submit(name="b")

    many = keyed.submit_many([{"name": "a"}, {"name": "b"}, {"name": "a"}])

    assert many[1] == live.id
    assert many[0] == many[2]
    assert len(rows()) == 2


def test_ten_thousand_jobs_are_recorded_and_sent() -> None:
    ids = nothing.submit_many([{} for _ in range(10_000)])

    with session() as opened:
        assert opened.scalar(select(func.count()).select_from(Job)) == len(set(ids)) == 10_000
    assert lengths(["cpu"]) == {"cpu": 10_000}


def test_a_message_goes_only_when_the_callers_transaction_commits() -> None:
    with session() as opened:
        add.apply_async((1,), session=opened)
        with within(opened):
            add.delay(2)
        assert queued_ids("cpu") == set()

    assert len(queued_ids("cpu")) == 2


def test_a_savepoint_sends_nothing_and_a_rollback_leaves_nothing() -> None:
    with session() as opened:
        with opened.begin_nested():
            add.apply_async((1,), session=opened)
        assert queued_ids("cpu") == set()
        opened.rollback()

    assert rows() == []
    assert queued_ids("cpu") == set()


def test_an_id_cannot_be_used_twice() -> None:
    job_id = str(uuid4())
    add.apply_async((1,), task_id=job_id)

    with pytest.raises(ValueError, match="a job with this id exists already"):
        add.apply_async((2,), task_id=job_id)


def test_an_option_without_effect_is_refused() -> None:
    with pytest.raises(TypeError, match="unknown option routing_key='x': it has no effect here"):
        add.apply_async((1,), routing_key="x")


def test_a_job_with_a_countdown_waits_in_the_ledger_not_in_redis(clean_db: Path) -> None:
    add.apply_async((1,), countdown=60)

    (row,) = rows()
    assert row.sent_at is None
    assert queued_ids("cpu") == set()


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("a\0b", "tests.echo: the parameters are no text that Postgres stores: it contains a NUL character"),
        ("\ud800", "tests.echo: the parameters cannot be written as JSON"),
    ],
    ids=["NUL", "half a surrogate pair"],
)
def test_parameters_that_postgres_cannot_store_are_refused(value: object, line: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        echo.submit(value=value)

    assert line in str(refused.value)
    assert rows() == []


@pytest.mark.parametrize("owner", ["a\0b", "\ud800"], ids=["NUL", "half a surrogate pair"])
def test_an_owner_that_postgres_cannot_store_is_refused(owner: str) -> None:
    with pytest.raises(InvalidParams, match=r"^owner=.* is no text"):
        echo.apply_async(kwargs={"value": 1}, owner=owner)

    assert rows() == []
