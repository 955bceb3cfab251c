"""Statements that change many rows wait for each other, or pass over what another holds: none ends in a deadlock.

Each is begun while somebody holds the row in the middle, then another that takes the same rows in the order of their
ids. Had the first taken them in another order, each would now hold what the other wants next.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from broker import relay
from db import barrier, batch, interactions, lease, ledger, outbox, recommend, source_page
from db.artifact import Artifact, Model
from db.batch import Failure
from db.engine import autocommit, session
from db.interactions import HALF_LIFE
from db.ledger import Claimed, NewJob

PAST = datetime(2020, 1, 1, tzinfo=UTC)
ERROR = {"type": "ValueError", "module": "builtins", "message": "no", "traceback": None}
IDS = [UUID(int=n) for n in range(1, 4)]
OTHER = UUID(int=9)


def new(job_id: UUID, **fields: Any) -> NewJob:
    return NewJob(job_id, "tests.together", "cpu", 3, {}, run_at=PAST, **fields)


def waiting(on: Connection, **fields: Any) -> list[Claimed]:
    """In the table they lie in the opposite order."""
    ledger.submit(on, [new(each, **fields) for each in reversed(IDS)])
    return []


def running(on: Connection) -> list[Claimed]:
    waiting(on, batch="a")
    leader = ledger.claim(on, IDS[-1], "w", 60)
    assert leader is not None
    return [leader, *batch.join(on, leader, "w", 60, 2)]


def children(on: Connection) -> list[Claimed]:
    ledger.submit(on, [new(OTHER)])
    barrier.wait_for(on, OTHER, 3, parent_id=OTHER)
    return waiting(on, group_id=OTHER)


def overtaken(on: Connection) -> list[Claimed]:
    waiting(on)
    on.execute(text("UPDATE job SET sent_at = :past"), {"past": PAST})
    ledger.submit(on, [new(OTHER)])
    ledger.claim(on, OTHER, "w", 60)
    return []


Statement = Callable[[Session, list[Claimed]], object]
STATEMENTS: dict[str, tuple[Callable[[Connection], list[Claimed]], Statement]] = {
    "succeed": (running, lambda on, jobs: batch.succeed(on, [(each, 1) for each in jobs])),
    "fail": (running, lambda on, jobs: batch.fail(on, [Failure(each, ERROR, permanent=False) for each in jobs])),
    "hand over": (running, lambda on, jobs: batch.hand_over(on, jobs)),
    "lose": (running, lambda on, jobs: lease.lose(on, jobs[0].id, "w", ERROR)),
    "give back": (running, lambda on, _: lease.give_back(on, "w")),
    "cancel": (children, lambda on, _: ledger.cancel(on, OTHER)),
    "expire": (lambda on: waiting(on, expires_at=PAST), lambda on, _: ledger.expire(on)),
    "unsend": (waiting, lambda on, _: outbox.unsend(on, reversed(IDS))),
    "unsend overtaken": (overtaken, lambda on, _: outbox.unsend_overtaken(on, 10)),
}


@pytest.mark.parametrize("scan", ["seqscan", "indexscan"])
@pytest.mark.parametrize("name", STATEMENTS)
def test_jobs_are_taken_in_one_order_or_passed_over(on: Connection, name: str, scan: str) -> None:
    prepare, statement = STATEMENTS[name]
    jobs = prepare(on)

    race(on, lambda transaction: statement(transaction, jobs), scan, "job", "id", IDS)


@pytest.mark.parametrize("scan", ["seqscan", "indexscan"])
def test_so_are_items_whose_popularity_changes(on: Connection, scan: str) -> None:
    items = ["a", "b", "c"]
    for each in reversed(items):
        interactions.append(on, [("alice", each)])

    race(on, lambda on: interactions.decay_popularity(on, HALF_LIFE), scan, "catalogue_item", "item_id", items)
    race(
        on,
        lambda on: interactions.add_popularity(on, {"c": 1, "b": 1, "a": 1}),
        scan,
        "catalogue_item",
        "item_id",
        items,
    )

    assert list(on.execute(text("SELECT popularity FROM catalogue_item")).scalars()) == [1.5] * 3


@pytest.mark.parametrize("scan", ["seqscan", "indexscan"])
def test_so_are_answers_that_have_expired(on: Connection, scan: str) -> None:
    keys = ["a", "b", "c"]
    for each in reversed(keys):
        source_page.put(on, "tests", {each: 1}, -1)

    race(on, source_page.clean, scan, "source_page", "key", keys)


LISTS: dict[str, tuple[str, Statement]] = {
    "put": ("user_profile", lambda on, _: put_lists(on, 2)),
    "clean": ("recommendation_cache", lambda on, _: recommend.clean(on, -1)),
    "clean versions": ("recommendation_cache", lambda on, _: recommend.clean_versions(on, None)),
}
USERS = ["a", "b", "c"]


def put_lists(on: ledger.Executor, version: int, users: Sequence[str] = USERS) -> int:
    rows = [{"username": each, "profile_hash": "", "features": {}, "items": [], "state": None} for each in users]
    return recommend.put_lists(on, rows, model_version=version, top_k=1)


@pytest.mark.parametrize("scan", ["seqscan", "indexscan", "hashjoin"])
@pytest.mark.parametrize("name", LISTS)
def test_so_are_lists_and_their_profiles(on: Connection, name: str, scan: str) -> None:
    for each in reversed(USERS):
        profile = {"username": each, "external_id": None, "item_ids": [], "profile_hash": ""}
        recommend.put_profiles(on, [profile])
        put_lists(on, 1, [each])
    with session() as opened:
        opened.add(Artifact(digest="d", kind=recommend.MODEL, size_bytes=0, manifest={}))
        opened.flush()
        opened.add(Model(name=recommend.MODEL, version=2, artifact_digest="d", metrics={}, lineage={}, is_current=True))
    table, statement = LISTS[name]

    race(on, lambda transaction: statement(transaction, []), scan, table, "username", USERS)


@pytest.mark.parametrize("scan", ["seqscan", "indexscan", "hashjoin"])
def test_so_are_items_whose_popularity_is_set(on: Connection, scan: str) -> None:
    items = ["a", "b", "c"]
    for each in reversed(items):
        interactions.append(on, [("alice", each)])
    given = dict.fromkeys(reversed(items), 5.0)

    race(on, lambda on: recommend.put_popularity(on, given), scan, "catalogue_item", "item_id", items)


def race(
    on: Connection, statement: Callable[[Session], object], scan: str, table: str, column: str, keys: Sequence[Any]
) -> None:
    """A statement begins while the row in the middle is held; then another that takes the rows in order."""
    lock = text(f"SELECT FROM {table} WHERE {column} = :key FOR UPDATE")

    def first() -> None:
        with session() as transaction:
            for each in ("seqscan", "indexscan", "bitmapscan", "hashjoin", "mergejoin"):
                transaction.execute(text(f"SET LOCAL enable_{each} = {'on' if each == scan else 'off'}"))
            statement(transaction)

    def second() -> None:
        with session() as transaction:
            for each in keys:
                transaction.execute(lock, {"key": each})

    with ThreadPoolExecutor(2) as pool, session() as holder:
        holder.execute(lock, {"key": keys[1]})
        begun = [pool.submit(first)]
        until_they_wait(on, begun)
        begun.append(pool.submit(second))
        until_they_wait(on, begun)
        holder.commit()
        for each in begun:
            each.result()


def test_what_changed_while_it_was_waited_for_is_settled_as_it_is_now(on: Connection) -> None:
    jobs = running(on)

    def settle() -> None:
        with autocommit() as connection:
            batch.succeed(connection, [(each, 1) for each in jobs])

    with ThreadPoolExecutor(1) as pool, session() as holder:
        ledger.cancel(holder, IDS[1])
        holder.execute(text("UPDATE job SET attempt = 7 WHERE id = :id"), {"id": IDS[2]})
        begun = pool.submit(settle)
        until_they_wait(on, [begun])
        holder.commit()
        begun.result()

    states = on.execute(text("SELECT state FROM job ORDER BY id")).scalars()
    assert list(states) == ["SUCCESS", "REVOKED", "STARTED"]


def test_what_a_stopping_worker_gives_back_does_not_wait_for_a_job_that_holds_its_row(on: Connection) -> None:
    running(on)

    def stop() -> int:
        with autocommit() as connection:
            return lease.give_back(connection, "w")

    with ThreadPoolExecutor(1) as pool, session() as holder:
        lease.hold(holder, IDS[0], 1)
        begun = pool.submit(stop)
        until_they_wait(on, [begun])
        meanwhile = list(on.execute(text("SELECT state FROM job ORDER BY id")).scalars())
        holder.commit()

    assert meanwhile == ["STARTED", "PENDING", "PENDING"]
    assert begun.result() == 3


@pytest.mark.parametrize("fields", [{"batch": "a"}, {"owner": "alice"}])
def test_two_that_let_a_lane_go_send_its_window_once(on: Connection, fields: dict[str, str]) -> None:
    waiting(on, **fields)
    lane = new(OTHER, **fields).lane
    assert lane is not None

    with session() as another:
        sent = [*outbox.let_go(another, lane, 2), *outbox.let_all_go(on, 2)]

    assert len(sent) == 2


def test_lost_messages_are_found_by_the_limit(on: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    overtaken(on)

    assert [outbox.unsend_overtaken(on, 10, limit=2) for _ in range(3)] == [2, 1, 0]

    on.execute(text("UPDATE job SET sent_at = :past"), {"past": PAST})
    monkeypatch.setattr(outbox, "MOST", 2)
    ledger.succeed(on, OTHER, 1, None)  # nobody overtakes them any more
    assert [relay.reconcile() for _ in range(3)] == [2, 1, 0]


def test_what_expired_is_revoked_by_the_limit(on: Connection) -> None:
    waiting(on, expires_at=PAST)

    assert [len(ledger.expire(on, limit=2)) for _ in range(3)] == [2, 1, 0]


def until_they_wait(on: Connection, begun: Sequence[Future[Any]]) -> None:
    """Or are done."""
    waiters = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    while on.execute(waiters).scalar_one() < sum(not each.done() for each in begun):
        pass
