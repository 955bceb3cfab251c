"""Adding up the history: each row once, also those that commit late."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from db import history, lease, ledger, residency
from db.engine import autocommit, engine
from db.history import Behind, Tally
from db.ledger import NewJob

pytestmark = pytest.mark.usefixtures("clean_db")

BORN = ("tests.add", "cpu", 3, None, "PENDING", None)
STARTED = ("tests.add", "cpu", 3, "PENDING", "STARTED", None)
ENDED = ("tests.add", "cpu", 3, "STARTED", "SUCCESS", None)


@pytest.fixture
def on(clean_db: object) -> Iterator[Connection]:
    with autocommit() as connection:
        yield connection


def born(on: Connection) -> NewJob:
    job = NewJob(uuid4(), "tests.add", "cpu", 3, {"x": 1})
    ledger.submit(on, [job])
    return job


def counts(tally: Tally, on: Connection) -> dict[tuple[object, ...], float]:
    return {key: values[0] for key, values in tally.look(on).items()}


def test_a_job_is_counted_through_its_life_with_the_time_of_each_part(on: Connection) -> None:
    tally, job = Tally.of_transitions(), born(on)
    claimed = ledger.claim(on, job.id, "w", 60)
    assert claimed
    ledger.succeed(on, job.id, claimed.attempt, 1)

    sums = tally.look(on)

    assert counts(tally, on) == {BORN: 1, STARTED: 1, ENDED: 1}
    assert sums[BORN][1:] == (0,) * (2 + len(history.BOUNDS_S))
    for key in (STARTED, ENDED):
        number, seconds, *within = sums[key][1:]
        assert number == within[-1] == 1
        assert 0 <= seconds < 60


def test_what_commits_behind_rows_that_are_added_up_is_counted_once(on: Connection) -> None:
    tally = Tally.of_transitions()
    with engine().connect() as late, late.begin():
        born(late)
        born(on)
        for _ in range(3):
            tally.settle(engine())
            assert counts(tally, on) == {BORN: 1}
    for expected in (2, 2, 3):
        if expected == 3:
            born(on)
        assert counts(tally, on) == {BORN: expected}
        tally.settle(engine())
        assert counts(tally, on) == {BORN: expected}


def test_rows_that_are_added_up_are_not_read_again(on: Connection) -> None:
    tally = Tally.of_transitions()
    born(on)
    tally.settle(engine())
    tally.settle(engine())
    on.execute(text("DELETE FROM job_event WHERE id = 1"))

    born(on)

    assert counts(tally, on) == {BORN: 2}


def test_a_long_history_is_added_up_in_parts_before_it_is_told(on: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "OPEN", 3)
    monkeypatch.setattr(history, "CHUNK", 2)
    tally = Tally.of_transitions()
    for _ in range(5):
        born(on)

    with pytest.raises(Behind, match="5 rows of history are to be added up first"):
        tally.look(on)
    tally.settle(engine())
    tally.settle(engine())
    assert counts(tally, on) == {BORN: 5}


def test_another_history_begins_again(on: Connection) -> None:
    tally = Tally.of_transitions()
    born(on)
    born(on)
    tally.settle(engine())
    tally.settle(engine())
    on.execute(text("TRUNCATE job_event RESTART IDENTITY"))  # as a backup that is restored
    born(on)

    assert counts(tally, on) == {BORN: 1}
    tally.settle(engine())
    tally.settle(engine())
    assert counts(tally, on) == {BORN: 1}


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        ("UPDATE job SET lease_until = now() - interval '1 s'", "WorkerLost"),
        (None, "GivenBack"),
    ],
)
def test_what_ended_an_attempt_is_in_the_history(on: Connection, end: str | None, cause: str) -> None:
    job = born(on)
    ledger.claim(on, job.id, "w", 60)
    if end:
        on.execute(text(end))
        lease.rescue(on, 0)
    else:
        lease.give_back(on, "w")

    causes = on.execute(text("SELECT cause FROM job_event WHERE from_state = 'STARTED'")).scalars().all()
    assert causes == [cause]


def test_every_refusal_of_a_kind_is_an_attempt_in_the_history(on: Connection) -> None:
    job = born(on)
    for _ in range(3):
        ledger.refuse(on, job.id, {"type": "NotRegistered", "module": "m", "message": "unknown", "traceback": None})

    rows = on.execute(text("SELECT from_state, to_state, attempt, cause FROM job_event ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [
        (None, "PENDING", 0, None),
        ("PENDING", "RETRY", 1, "NotRegistered"),
        ("RETRY", "RETRY", 2, "NotRegistered"),
        ("RETRY", "FAILURE", 3, "NotRegistered"),
    ]


def test_workers_have_minutes_to_learn_of_a_kind(on: Connection) -> None:
    job = born(on)
    error = {"type": "NotRegistered", "module": "m", "message": "unknown", "traceback": None}

    pauses = []
    for _ in range(2):
        ledger.refuse(on, job.id, error)
        pauses.append(on.execute(text("SELECT CAST(extract(epoch FROM run_at - now()) AS integer) FROM job")).scalar())

    assert pauses == [60, 120]


def test_moves_of_models_are_counted_with_their_time(on: Connection) -> None:
    tally, job = Tally.of_model_moves(), born(on)
    for event, seconds in [("load", 2.0), ("offload", 0.5), ("load", 1.0)]:
        residency.record(on, job.id, 1, "editor", event, seconds, 60)
    residency.record(on, uuid4(), 1, "editor", "load", 9.0, 60)  # of no job

    assert tally.look(on) == {("load",): (2, 3.0, 1), ("offload",): (1, 0.5, 0)}


def test_a_switch_is_what_comes_in_after_another_had_to_go_also_across_two_looks(on: Connection) -> None:
    tally, job = Tally.of_model_moves(), born(on)

    def move(model: str, event: residency.Event, process: int = 7) -> None:
        residency.record(on, job.id, process, model, event, 0.5, 1000)

    move("a", "load")
    move("b", "load")  # into free room
    move("a", "drop")
    move("x", "load", process=8)  # another process had the room
    assert {key: values[2] for key, values in tally.look(on).items()} == {("load",): 0, ("drop",): 0}
    for _ in range(2):
        tally.settle(engine())

    move("c", "load")
    assert tally.look(on)["load",] == (4, 2.0, 1)
