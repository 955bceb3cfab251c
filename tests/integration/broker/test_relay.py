"""The relay: it sends what is due once, finds what was lost, and any number of relays may run."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from broker import relay
from broker.publish import lengths, queued_ids
from broker.settings import make_client
from db import barrier, ledger
from db.engine import autocommit
from db.ledger import NewJob
from tests.jobs import add, echo, fail

pytestmark = pytest.mark.usefixtures("clean_db")

DUE = datetime(2020, 1, 1, tzinfo=UTC)


def unsent(count: int) -> list[UUID]:
    """Jobs that are due and whose messages never went."""
    jobs = [NewJob(uuid4(), "tests.add", "cpu", 3, {"x": number}, run_at=DUE) for number in range(count)]
    with autocommit() as connection:
        ledger.submit(connection, jobs)
        connection.execute(text("UPDATE job SET sent_at = NULL"))
    return [job.id for job in jobs]


def test_two_relays_at_once_send_each_job_once() -> None:
    ids = unsent(3000)

    with ThreadPoolExecutor(2) as pool:
        sent = sum(pool.map(lambda _: relay.send_due(), range(2)))

    assert sent == 3000
    assert lengths(["cpu"]) == {"cpu": 3000}
    assert queued_ids("cpu") == set(ids)


def test_what_is_not_due_stays() -> None:
    add.apply_async((1,), countdown=60)

    assert relay.tick().sent == 0
    assert lengths(["cpu"]) == {"cpu": 0}


def test_messages_that_redis_lost_are_sent_again() -> None:
    ids = {UUID(each) for each in add.submit_many([{"x": number} for number in range(20)])}
    with make_client() as client:
        client.flushall()

    assert relay.reconcile(older_s=0) == 20
    assert relay.tick().sent == 20
    assert queued_ids("cpu") == ids
    assert relay.reconcile(older_s=0) == 0


def test_a_few_lost_among_many_are_found() -> None:
    add.submit_many([{"x": number} for number in range(20)])
    with make_client() as client:
        (key,) = client.keys("cpu*")
        client.rpop(key, 3)

    assert relay.reconcile(older_s=0) == 3


def test_a_young_message_is_not_missed_yet() -> None:
    add.submit(x=1)
    with make_client() as client:
        client.flushall()

    assert relay.reconcile() == 0


def test_a_lease_that_ran_out_is_taken_back_and_its_last_one_opens_the_barrier() -> None:
    group = uuid4()
    child = NewJob(uuid4(), "tests.add", "cpu", 3, {"x": 1}, max_attempts=1, group_id=group, group_index=0)
    with autocommit() as connection:
        ledger.submit(connection, [child])
        barrier.wait_for(connection, group, 1, body=dict(echo.s()))
        ledger.claim(connection, child.id, "dead", -1)

    assert relay.tick(rescue=False).rescued == 0
    assert relay.tick(up_for_s=0).rescued == 1
    with autocommit() as connection:
        assert connection.execute(text("SELECT state FROM job")).scalar_one() == "FAILURE"
        assert barrier.is_released(connection, group)


def test_an_attempt_that_failed_is_sent_again_when_it_is_due() -> None:
    result = fail.submit()
    with autocommit() as connection:
        claimed = ledger.claim(connection, UUID(result.id), "w", 60)
        assert claimed is not None
        ledger.fail(connection, claimed.id, claimed.attempt, {"type": "E", "message": "m"}, permanent=False)
        connection.execute(text("UPDATE job SET run_at = now() + interval '1 hour'"))
    with make_client() as client:
        client.flushall()
    assert relay.tick().sent == 0

    with autocommit() as connection:
        connection.execute(text("UPDATE job SET run_at = now()"))

    assert relay.tick().sent == 1
    assert queued_ids("cpu") == {UUID(result.id)}


def test_a_lost_message_on_a_busy_queue_shows_when_later_ones_overtake_it() -> None:
    lost = UUID(add.submit(x=1).id)
    with make_client() as client:
        client.flushall()
    with autocommit() as connection:
        connection.execute(text("UPDATE job SET sent_at = now() - interval '10 s'"))
    later = add.submit_many([{"x": n} for n in range(3)])

    assert relay.reconcile() == 0  # there are as many messages as ever, and nothing says that one is missing
    with autocommit() as connection:
        ledger.claim(connection, UUID(later[0]), "w", 60)

    assert relay.reconcile() == 1
    assert relay.send_due() == 1
    assert lost in queued_ids("cpu")
