"""The ledger's transitions against a real Postgres: the fence, leases, final states, and who must not wait for whom."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text, update
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from broker import canvas
from db import barrier, lease, ledger, outbox, storable
from db.base import Base
from db.engine import autocommit, engine, session
from db.job import Job
from db.ledger import Claimed, NewJob

pytestmark = pytest.mark.usefixtures("clean_db")

PAST = datetime(2020, 1, 1, tzinfo=UTC)
ERROR = {"type": "ValueError", "module": "builtins", "message": "no", "traceback": None}


def new(**fields: Any) -> NewJob:
    return NewJob(**{"id": uuid4(), "kind": "tests.add", "queue": "cpu", "priority": 3, "params": {"x": 1}, **fields})


def claimed(on: Connection, *, lease_s: float = 60, worker: str = "w", **fields: Any) -> Claimed:
    job = new(**fields)
    ledger.submit(on, [job])
    taken = ledger.claim(on, job.id, worker, lease_s)
    assert taken is not None
    return taken


def row(job_id: UUID) -> Job:
    with session() as opened:
        return opened.get_one(Job, job_id)


def test_the_migrations_make_the_schema_that_the_models_describe() -> None:
    import db.recommend  # noqa: F401

    with engine().connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_only_one_of_two_deliveries_claims(on: Connection) -> None:
    first = claimed(on)

    assert ledger.claim(on, first.id, "other", 60) is None


def test_a_worker_that_lost_its_lease_writes_nothing(on: Connection) -> None:
    late = claimed(on, lease_s=-1, backoff_s=0)
    lease.rescue(on, 0)
    outbox.take_due(on, 10)
    current = ledger.claim(on, late.id, "other", 60)
    assert current is not None

    assert not ledger.succeed(on, late.id, late.attempt, "late")
    assert ledger.fail(on, late.id, late.attempt, ERROR, permanent=True) is None
    assert ledger.progress(on, late.id, late.attempt, {"done": 1}) is None
    assert not ledger.suspend(on, late.id, late.attempt)
    assert lease.lose(on, late.id, "w", ERROR) == []
    with session() as opened:
        assert lease.hold(opened, late.id, late.attempt) is None
    assert ledger.succeed(on, current.id, current.attempt, "current")
    assert row(late.id).result == "current"


@pytest.mark.parametrize("state", ["PENDING", "STARTED", "RETRY", "FAILURE", "REVOKED"])
def test_what_is_final_stays_so(on: Connection, state: str) -> None:
    done = claimed(on)
    ledger.succeed(on, done.id, done.attempt, 1)

    with pytest.raises((ProgrammingError, SQLAlchemyError), match="is SUCCESS for good"):
        on.execute(update(Job).where(Job.id == done.id).values(state=state))
    assert ledger.cancel(on, done.id) == []


def test_attempts_are_bounded_however_they_end(on: Connection) -> None:
    job = claimed(on, lease_s=-1, backoff_s=0, max_attempts=2)

    assert [each.state for each in lease.rescue(on, 0)] == ["RETRY"]
    again = ledger.claim(on, job.id, "w", -1)
    assert again is not None
    assert [each.state for each in lease.rescue(on, 0)] == ["FAILURE"]
    assert "the lease of worker w ran out" in (row(job.id).error or {})["message"]


def test_the_delay_before_an_attempt_doubles_up_to_ten_minutes(on: Connection) -> None:
    for attempt, least, most in ((0, 1.5, 2.5), (2, 6, 10), (40, 450, 750), (5000, 450, 750)):
        job = claimed(on, backoff_s=2, max_attempts=10_000)
        on.execute(update(Job).where(Job.id == job.id).values(attempt=attempt + 1))

        assert ledger.fail(on, job.id, attempt + 1, ERROR, permanent=False) == "RETRY"
        delay = on.execute(text("SELECT extract(epoch FROM run_at - now()) FROM job WHERE id = :id"), {"id": job.id})
        assert least - 0.5 < delay.scalar_one() <= most


def test_what_a_stopping_worker_gives_back_is_not_charged(on: Connection) -> None:
    job, others = claimed(on, worker="stops"), claimed(on, worker="stays")

    assert lease.give_back(on, "stops") == 1
    assert (row(job.id).state, row(job.id).spared, row(others.id).state) == ("PENDING", 1, "STARTED")


def test_a_waiting_parent_is_not_claimed_until_its_children_are_final(on: Connection) -> None:
    parent, group = claimed(on), uuid4()
    child = new(group_id=group, group_index=0)
    ledger.submit(on, [child])
    barrier.wait_for(on, group, 1, parent_id=parent.id)
    assert ledger.suspend(on, parent.id, parent.attempt)
    assert ledger.claim(on, parent.id, "w", 60) is None
    assert barrier.ready(on) == []

    taken = ledger.claim(on, child.id, "w", 60)
    assert taken is not None
    ledger.succeed(on, child.id, taken.attempt, 1)

    assert barrier.ready(on) == [group]
    assert barrier.release(on, group) is not None
    assert barrier.release(on, group) is None
    again = ledger.claim(on, parent.id, "w", 60)
    assert again is not None
    assert (again.attempt, row(parent.id).spared) == (2, 1)


def test_a_job_that_was_not_started_in_time_expires(on: Connection) -> None:
    late, early = new(expires_at=PAST), new(expires_at=datetime.now(UTC) + timedelta(hours=1))
    ledger.submit(on, [late, early])

    assert ledger.claim(on, late.id, "w", 60) is None
    assert [each.id for each in ledger.expire(on)] == [late.id]


def test_a_parent_that_waits_for_its_children_does_not_expire(on: Connection) -> None:
    parent = claimed(on, expires_at=datetime.now(UTC) + timedelta(hours=1))
    group = uuid4()
    barrier.wait_for(on, group, 0, parent_id=parent.id)
    ledger.suspend(on, parent.id, parent.attempt)
    on.execute(update(Job).where(Job.id == parent.id).values(expires_at=PAST))

    assert ledger.expire(on) == []
    barrier.release(on, group)
    assert ledger.expire(on) == []
    assert ledger.claim(on, parent.id, "w", 60) is not None


def test_a_job_whose_cancellation_was_requested_is_not_tried_again(on: Connection) -> None:
    failing, lost, dead = claimed(on), claimed(on, lease_s=-1), claimed(on, worker="d")
    for each in (failing, lost, dead):
        ledger.cancel(on, each.id)

    assert ledger.fail(on, failing.id, failing.attempt, ERROR, permanent=False) == "REVOKED"
    assert [each.state for each in lease.rescue(on, 0)] == ["REVOKED"]
    assert [each.state for each in lease.lose(on, dead.id, "d", ERROR)] == ["REVOKED"]
    assert row(failing.id).finished_at is not None


def test_renewing_does_not_wait_for_a_job_whose_row_is_held(on: Connection) -> None:
    held, other = claimed(on), claimed(on)

    with session() as transaction:
        lease.hold(transaction, held.id, held.attempt)
        renewed = lease.renew(on, [held.id, other.id], "w", 60)

    assert list(renewed) == [other.id]


def test_a_job_is_taken_from_a_worker_when_it_is_deleted_waits_or_is_another_s_and_not_when_it_ended_well(
    on: Connection,
) -> None:
    held, ended, failed, waiting = (claimed(on) for _ in range(4))
    other = claimed(on, worker="another")
    ledger.succeed(on, ended.id, 1, None)
    ledger.fail(on, failed.id, 1, ERROR, permanent=True)
    ledger.hand_over(on, waiting.id, 1)
    deleted, soon_claimed = uuid4(), new()
    ledger.submit(on, [soon_claimed])
    asked = [held.id, ended.id, failed.id, waiting.id, other.id, deleted, soon_claimed.id]

    taken = lease.taken(on, asked, "w")

    assert taken == {failed.id, waiting.id, other.id, deleted}


def test_cancelling_a_parent_that_is_just_fanning_out_takes_its_children_with_it(on: Connection) -> None:
    parent, group = claimed(on), uuid4()
    child = new(group_id=group, group_index=0)

    with session() as fanning, ThreadPoolExecutor(1) as pool:
        lease.hold(fanning, parent.id, parent.attempt)
        cancelling = pool.submit(canvas.cancel, parent.id)
        until_somebody_waits(on)
        ledger.submit(fanning, [child])
        barrier.wait_for(fanning, group, 1, parent_id=parent.id)
        ledger.suspend(fanning, parent.id, parent.attempt)
        fanning.commit()
        cancelling.result(10)

    assert (row(parent.id).state, row(child.id).state) == ("REVOKED", "REVOKED")


def test_two_submissions_of_the_same_keys_do_not_deadlock() -> None:
    keys = [f"k{number:04d}" for number in range(1500)]

    def submit(these: list[str]) -> list[UUID]:
        with autocommit() as connection:
            return ledger.submit(connection, [new(key=key) for key in these])[0]

    with ThreadPoolExecutor(2) as pool:
        forward, backward = pool.map(submit, (keys, keys[::-1]))

    assert forward == backward[::-1]


@pytest.mark.parametrize("value", [float("nan"), "a\0", "\ud800", {"a": object()}])
def test_a_result_that_is_no_json_is_refused_by_name(on: Connection, value: object) -> None:
    job = claimed(on)

    with pytest.raises(storable.NotStorable):
        ledger.succeed(on, job.id, job.attempt, value)


def test_ids_and_keys_of_one_submission_answer_in_order(on: Connection) -> None:
    live, fresh = new(key="a"), new()
    ledger.submit(on, [live])

    ids, due = ledger.submit(on, [fresh, new(key="a"), later := new(key="b", run_at=datetime(2100, 1, 1, tzinfo=UTC))])

    assert ids == [fresh.id, live.id, later.id]
    assert due == {fresh.id}
    with pytest.raises(ledger.DuplicateId):
        ledger.submit(on, [replace(fresh, key=None)])


def until_somebody_waits(on: Connection) -> None:
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    while not on.execute(waiting).scalar():
        pass


def test_a_process_that_hangs_in_its_transaction_does_not_keep_its_row_for_ever(on: Connection) -> None:
    idle = text("SHOW idle_in_transaction_session_timeout")
    hanging = new()
    ledger.submit(on, [hanging])
    ledger.claim(on, hanging.id, "w", -1)
    with session() as transaction:
        lease.hold(transaction, hanging.id, 1)
        assert transaction.execute(idle).scalar() == "2min"
        transaction.execute(text("SET LOCAL idle_in_transaction_session_timeout = '200ms'"))

        assert lease.rescue(on, 0) == []
        while not (rescued := lease.rescue(on, 0)):
            pass

        assert [each.id for each in rescued] == [hanging.id]
        with pytest.raises(SQLAlchemyError):
            transaction.execute(idle)
        transaction.rollback()
    with session() as another:
        assert another.execute(idle).scalar() == "0"
