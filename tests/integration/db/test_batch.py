"""Batches in the ledger: who joins, what one statement settles, and whose lease hangs on whose."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text

from broker import relay
from broker.publish import lengths
from db import batch, lease, ledger, outbox
from db.batch import Failure
from db.engine import autocommit, session
from db.job import Job
from db.ledger import BATCH_WINDOW, Claimed, NewJob
from tests.jobs import together

pytestmark = pytest.mark.usefixtures("clean_db")

PAST = datetime(2020, 1, 1, tzinfo=UTC)
ERROR = {"type": "ValueError", "module": "builtins", "message": "no", "traceback": None}


def new(minute: int = 0, batch: str | None = "a", **fields: Any) -> NewJob:
    due = PAST + timedelta(minutes=minute)
    return NewJob(**{"id": uuid4(), "kind": "tests.together", "queue": "cpu", "priority": 3, "params": {"n": 1},
                     "run_at": due, "batch": batch, **fields})  # fmt: skip


def lead(on: Connection, job: NewJob, worker: str = "w", lease_s: float = 60) -> Claimed:
    taken = ledger.claim(on, job.id, worker, lease_s)
    assert taken is not None
    return taken


def joined(on: Connection, leader: Claimed, most: int = 63) -> set[UUID]:
    return {each.id for each in batch.join(on, leader, "w", 60, most)}


def formed(on: Connection, *others: NewJob, lease_s: float = 60) -> tuple[Claimed, list[Claimed]]:
    """A batch of these and a leader."""
    first = new()
    ledger.submit(on, [first, *others])
    leader = lead(on, first, lease_s=lease_s)
    mates = batch.join(on, leader, "w", lease_s, 63)
    assert {each.id for each in mates} == {each.id for each in others}
    return leader, sorted(mates, key=lambda each: [other.id for other in others].index(each.id))


def row(job_id: UUID) -> Job:
    with session() as opened:
        return opened.get_one(Job, job_id)


def test_only_what_is_due_fresh_and_alike_joins(on: Connection) -> None:
    first, mate, other_owners = new(), new(), new(owner="bob")
    soon = datetime.now(UTC) + timedelta(hours=1)
    outsiders = [
        new(batch="b"), new(batch=None), new(queue="cpu.other"), new(run_at=soon), new(expires_at=PAST),
        new(max_attempts=1),
    ]  # fmt: skip
    ledger.submit(on, [first, mate, other_owners, *outsiders])

    leader = lead(on, first)

    assert joined(on, leader) == {mate.id, other_owners.id}
    assert (row(mate.id).state, row(mate.id).attempt, row(mate.id).leader_id) == ("STARTED", 1, first.id)
    assert {row(each.id).state for each in outsiders} == {"PENDING"}


def test_what_was_charged_an_attempt_neither_joins_nor_leads(on: Connection) -> None:
    failed, given_back, fresh = new(backoff_s=0), new(), new()
    ledger.submit(on, [failed, given_back, fresh])
    ledger.fail(on, failed.id, lead(on, failed).attempt, ERROR, permanent=False)
    lead(on, given_back, worker="stops")
    lease.give_back(on, "stops")

    assert not lead(on, failed).may_join
    leader = lead(on, fresh)

    assert joined(on, leader) == {given_back.id}


def test_the_leaders_own_lane_comes_first_and_in_it_the_highest_priority_and_the_longest_due(on: Connection) -> None:
    first = new(owner="alice")
    late, early, urgent = new(9, owner="alice"), new(5, owner="alice"), new(9, owner="alice", priority=0)
    bob = [new(n, owner="bob") for n in range(3)]
    ledger.submit(on, [*bob, first, late, early, urgent])
    leader = lead(on, first)

    assert joined(on, leader, 2) == {urgent.id, early.id}
    assert joined(on, leader, 3) == {late.id, bob[0].id, bob[1].id}


def test_two_leaders_at_once_share_nobody(on: Connection) -> None:
    leaders, others = [new(), new()], [new() for _ in range(200)]
    ledger.submit(on, [*leaders, *others])
    taken = [lead(on, each) for each in leaders]

    def join(leader: Claimed) -> list[Claimed]:
        with autocommit() as connection:
            return batch.join(connection, leader, "w", 60, 63)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(join, taken)

    assert len({each.id for each in first} | {each.id for each in second}) == len(first) + len(second)


def test_each_ends_on_its_own_in_a_statement_for_each_outcome(on: Connection) -> None:
    leader, (good, cancelled, bad, unlucky, stolen) = formed(on, *(new() for _ in range(5)))
    ledger.cancel(on, cancelled.id)
    on.execute(text("UPDATE job SET attempt = 7 WHERE id = :id"), {"id": stolen.id})

    ended = batch.succeed(on, [(leader, {"x": None}), (good, "fine"), (cancelled, "dropped"), (stolen, "too late")])
    ended += batch.fail(on, [Failure(bad, ERROR, permanent=True), Failure(unlucky, ERROR, permanent=False)])

    assert {each.id: each.state for each in ended} == {
        leader.id: "SUCCESS", good.id: "SUCCESS", cancelled.id: "REVOKED", bad.id: "FAILURE", unlucky.id: "RETRY"
    }  # fmt: skip
    assert (row(leader.id).result, row(good.id).result, row(cancelled.id).result) == ({"x": None}, "fine", None)
    assert (row(bad.id).error, row(stolen.id).state) == (ERROR, "STARTED")


def test_leases_are_renewed_with_the_leaders_even_when_that_one_has_ended(on: Connection) -> None:
    leader, (mate,) = formed(on, new(), lease_s=-1)

    assert set(lease.renew(on, [leader.id], "w", 60)) == {leader.id, mate.id}
    ledger.cancel(on, leader.id)
    ledger.revoke(on, leader.id, leader.attempt)

    assert lease.renew(on, [leader.id], "w", 60)[mate.id].leader_id == leader.id
    assert lease.renew(on, [leader.id], "another", 60) == {}
    assert lease.rescue(on, 0) == []


def test_a_process_that_dies_takes_the_attempts_of_all_with_it(on: Connection) -> None:
    leader, mates = formed(on, new(), new())
    assert lease.lose(on, mates[0].id, "w", ERROR) == []  # what died had its stale message in hand

    lost = lease.lose(on, leader.id, "w", ERROR)

    assert {each.id: each.state for each in lost} == dict.fromkeys((leader.id, *(each.id for each in mates)), "RETRY")


def test_a_batch_of_a_worker_that_stops_or_is_lost_comes_back_whole(on: Connection) -> None:
    formed(on, new(), new())
    assert lease.give_back(on, "w") == 3

    on.execute(text("UPDATE job SET state = 'REVOKED'"))
    formed(on, new(), lease_s=-1)
    assert [each.state for each in lease.rescue(on, 0)] == ["RETRY"] * 2


def test_who_led_before_is_not_remembered_in_a_later_attempt(on: Connection) -> None:
    leader, (mate,) = formed(on, new(backoff_s=0))
    batch.fail(on, [Failure(mate, ERROR, permanent=False)])

    alone = ledger.claim(on, mate.id, "w", 60)

    assert alone is not None
    assert set(lease.renew(on, [leader.id], "w", 60)) == {leader.id}


def test_what_is_handed_over_is_not_charged(on: Connection) -> None:
    leader, (mate,) = formed(on, new())

    batch.hand_over(on, [leader, mate])

    assert (row(mate.id).state, row(mate.id).spared, row(leader.id).state) == ("PENDING", 1, "PENDING")


def test_a_batch_to_be_is_held_back_but_for_a_window_of_it() -> None:
    together.submit_many([{"n": n} for n in range(20)])
    for n in range(5):
        together.submit(n=n, group="b")
        together.submit(n=n, group="c")

    assert lengths(["cpu"]) == {"cpu": 3 * BATCH_WINDOW}
    assert relay.tick().sent == 0


def test_the_relay_sends_the_next_of_a_batch_whose_messages_were_lost(on: Connection) -> None:
    sent = [UUID(together.submit(n=n).id) for n in range(5)][:BATCH_WINDOW]
    on.execute(text("UPDATE job SET state = 'REVOKED' WHERE id = ANY(:ids)"), {"ids": sent})

    assert relay.tick().sent == BATCH_WINDOW


def test_a_mate_that_was_sent_later_makes_no_other_message_look_lost(on: Connection) -> None:
    _, (mate,) = formed(on, new())
    waiting = new()
    ledger.submit(on, [waiting])
    on.execute(text("UPDATE job SET sent_at = now() - interval '1 h'"))
    on.execute(text("UPDATE job SET sent_at = now() WHERE id = :id"), {"id": mate.id})

    assert outbox.unsend_overtaken(on, 10) == 0
