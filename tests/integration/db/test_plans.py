"""Statements that pick rows and change them take no more than they may, however Postgres plans them.

A table that was small when it was last analysed gets a nested loop, which runs its inner side once for every row.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from db import batch, lease, ledger, outbox
from db.ledger import BATCH_WINDOW, NewJob


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
