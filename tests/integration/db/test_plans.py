"""Statements do what they should however Postgres plans them, and what it planned for a small table serves a large one.

A table that was small when it was last analysed gets a nested loop, which runs its inner side once for every row: what
picks rows there to change them must not take more than it may.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from db import barrier, batch, lease, ledger, outbox, read
from db.engine import autocommit, engine
from db.ledger import BATCH_WINDOW, Executor, Lane, NewJob


@pytest.fixture
def looped(on: Connection) -> Iterator[Connection]:
    """A connection on which whatever can be planned as a nested loop is, its inner side run anew for every row."""
    methods = ("hashjoin", "mergejoin", "material", "memoize", "hashagg", "sort")
    on.execute(text("; ".join(f"SET enable_{each} = off" for each in methods)))
    yield on
    on.execute(text("; ".join(f"RESET enable_{each}" for each in methods)))


def submitted(on: Connection, count: int, **fields: Any) -> list[NewJob]:
    jobs = [
        NewJob(**{"id": uuid4(), "kind": "tests.together", "queue": "cpu", "priority": 3, "params": {},
                  "run_at": datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=n), **fields})
        for n in range(count)
    ]  # fmt: skip
    ledger.submit(on, jobs)
    on.execute(text("UPDATE job SET sent_at = NULL"))
    return jobs


def test_a_batch_takes_no_more_than_its_room(looped: Connection) -> None:
    first, *others = submitted(looped, 9, batch="a")
    leader = ledger.claim(looped, first.id, "w", 60)
    assert leader is not None

    assert {each.id for each in batch.join(looped, leader, "w", 60, 3)} == {each.id for each in others[:3]}


def test_the_relay_takes_no_more_than_it_asks_for(looped: Connection) -> None:
    jobs = submitted(looped, 9)

    assert {each.id for each in outbox.take_due(looped, 3)} == {each.id for each in jobs[:3]}


@pytest.mark.parametrize("fields", [{"batch": "a"}, {"owner": "alice"}])
def test_of_a_lane_no_more_goes_than_its_window(looped: Connection, fields: dict[str, str]) -> None:
    first, *_ = submitted(looped, 9, **fields)
    lane = first.lane
    assert lane is not None

    assert len(outbox.let_go(looped, lane, BATCH_WINDOW)) == BATCH_WINDOW
    assert outbox.let_all_go(looped, BATCH_WINDOW) == []


def test_no_more_are_rescued_than_asked_for(looped: Connection) -> None:
    for each in submitted(looped, 9):
        ledger.claim(looped, each.id, "w", -1)

    assert len(lease.rescue(looped, 0, limit=3)) == 3


_KEPT = 12  # Postgres plans a statement ten times before it keeps a plan
_GROW = text("""
    INSERT INTO job (id, kind, queue, priority, params, max_attempts, backoff_s, run_at)
    SELECT gen_random_uuid(), 'tests.together', 'cpu', 3, '{}', 3, 2, timestamptz '2100-01-01' + n * interval '1 s'
    FROM generate_series(1, 20000) AS n""")


def lives(on: Executor, times: int) -> None:
    """What workers, the relay and those who wait ask of the ledger, so many times."""
    lane, error = Lane("cpu", "alice", 3, shared=False), {"type": "E", "module": "m", "message": "no"}
    for _ in range(times):
        group, (parent, first, mate, owned) = uuid4(), [uuid4() for _ in range(4)]
        common: dict[str, Any] = {"kind": "tests.together", "queue": "cpu", "priority": 3, "params": {}, "key": None}
        ledger.submit(on, [NewJob(**common | {"id": parent, "key": str(parent)})])
        ledger.submit(on, [NewJob(id=each, batch="a", group_id=group, **common) for each in (first, mate)])
        ledger.submit(on, [NewJob(id=owned, owner="alice", **common)])
        barrier.wait_for(on, group, 2, parent_id=parent)
        outbox.let_go(on, lane, 1)
        outbox.let_all_go(on, 1)
        outbox.take_due(on, 10)
        outbox.unsend(on, [first])
        outbox.unsend_overtaken(on, 10)
        outbox.sent_counts(on, 10)
        leader = ledger.claim(on, first, "w", 60)
        assert leader is not None
        batch.join(on, leader, "w", 60, 1)
        lease.renew(on, [first, mate], "w", 60)
        lease.taken(on, [first, parent], "w")
        ledger.progress(on, first, 1, {})
        batch.succeed(on, [(leader, 1)])
        lease.lose(on, first, "w", error)
        lease.give_back(on, "w")
        lease.rescue(on, 0)
        ledger.expire(on)
        barrier.release(on, group)
        barrier.follow(on, first)
        barrier.unfollowed(on)
        ledger.cancel(on, parent)
        on.commit()


@pytest.mark.parametrize("connected", [autocommit, lambda: Session(engine())], ids=["alone", "in a transaction"])
def test_what_was_planned_for_few_jobs_does_not_read_all_when_there_are_many(
    clean_db: object, connected: Callable[[], AbstractContextManager[Executor]]
) -> None:
    with connected() as on:
        on.execute(text("TRUNCATE job"))  # deleted rows leave its pages
        lives(on, 3)
        on.execute(text("ANALYZE job"))
        lives(on, _KEPT)
        on.execute(_GROW)

        before = scans(on)
        lives(on, 1)

        assert scans(on) == before


def test_a_later_page_of_the_list_does_not_read_the_earlier_ones(clean_db: object) -> None:
    with Session(engine()) as on:
        on.execute(_GROW)
        on.execute(text("UPDATE job SET created_at = run_at"))
        on.execute(text("ANALYZE job"))
        last = on.execute(text("SELECT created_at, id FROM job ORDER BY created_at OFFSET 99 LIMIT 1")).one()

        before = counted(on, "tuples_fetched")
        page = read.list_jobs(on, after=(last[0], last[1]))

        assert len(page) == 20
        assert counted(on, "tuples_fetched") - before < 100


def test_a_submission_of_many_does_not_look_for_each_at_how_many_are_ahead(on: Connection) -> None:
    before = counted(on, "numscans", "job_lane")
    submitted(on, 9, batch="a")

    assert counted(on, "numscans", "job_lane") == before


def scans(on: Executor) -> int:
    """How often the table was read from end to end."""
    return counted(on, "numscans")


def counted(on: Executor, what: str, of: str = "job") -> int:
    """By Postgres, of a table or an index."""
    on.execute(text("SELECT pg_stat_force_next_flush()"))
    on.commit()
    return int(on.execute(text(f"SELECT pg_stat_get_{what}('{of}'::regclass)")).scalar_one())
