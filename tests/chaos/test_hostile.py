"""Whatever lies on a queue, the worker records and drops it, and the next job runs."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from uuid import uuid4

import psutil
import pytest
from sqlalchemy import select

from broker.settings import make_client
from db import ledger
from db.dropped import DroppedMessage
from db.engine import autocommit, session
from db.ledger import NewJob
from tests import hostile, jobs
from tests.processes import Process, start_relay, start_worker
from tests.rows import row, starts

MESSAGES = 1000


@pytest.fixture
def running(quiet: Path) -> Iterator[Process]:
    relay = start_relay(quiet)
    worker = start_worker(quiet)
    try:
        yield worker
    finally:
        worker.stop()
        relay.stop()


def processes(worker: Process) -> set[int]:
    parent = psutil.Process(worker.popen.pid)
    return {parent.pid, *(child.pid for child in parent.children(recursive=True))}


def recorded() -> list[DroppedMessage]:
    with session() as opened:
        return list(opened.scalars(select(DroppedMessage).order_by(DroppedMessage.id)))


def messages_in(rows: list[DroppedMessage]) -> int:
    """How many messages these rows stand for: a flood is counted."""
    return sum(each.messages for each in rows)


def wait_until_recorded(worker: Process, count: int) -> list[DroppedMessage]:
    while messages_in(rows := recorded()) < count:
        worker.wait_for("messages_dropped", timeout=30)
    return rows


def garbled(random: Random) -> str:
    """A job whose only message does not arrive as it was sent."""
    job = NewJob(uuid4(), "tests.add", "cpu", 3, {"x": 1})
    with autocommit() as connection:
        ledger.submit(connection, [job])
    sent = hostile.text(hostile.honest(job.id, job.kind))
    with make_client() as client:
        client.lpush("cpu", sent[: random.randrange(1, len(sent))])
    return str(job.id)


@pytest.mark.parametrize("seed", [20260917])
def test_a_thousand_hostile_messages_stop_neither_the_worker_nor_a_job(
    running: Process, seed: int, tmp_path: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    random = Random(seed)
    count = 3 * MESSAGES if full else MESSAGES
    began, before = time.monotonic(), processes(running)

    real = [garbled(random) for _ in range(5)]
    with make_client() as client:
        for number, (_, message) in enumerate(hostile.messages(random, count, tmp_path)):
            client.lpush(random.choice(["cpu", "cpu\x06\x163", "cpu\x06\x166"]), message)
            if number % 10 == 0:
                real.append(jobs.add.submit(x=number).id)

    for job_id in real:
        assert jobs.add.AsyncResult(job_id).get(timeout=60) >= 1, f"seed {seed}"
    rows = wait_until_recorded(running, count + 5)
    assert messages_in(rows) == count + 5, f"seed {seed}"
    assert {each.queue for each in rows} == {"cpu"}
    assert all(each.reason and len(each.excerpt) <= 500 and each.excerpt.isprintable() for each in rows)
    assert [starts(job_id) for job_id in real] == [1] * len(real)
    assert processes(running) == before
    with make_client() as client:
        left = [key for key in client.scan_iter() if not key.startswith((b"_kombu", b"gristmill"))]
    assert not left, f"seed {seed}"
    assert not list(tmp_path.iterdir()), "a message made the worker run something"
    took = time.monotonic() - began
    said = f"{count:,} fuzzed messages: 0 crashes, all recorded or counted"
    figure(17, f"{said}; {len(real)} jobs among them ran once ({took:.0f} s)")


def test_a_message_cannot_make_a_worker_run_another_job_than_the_row_says(running: Process) -> None:
    job = NewJob(uuid4(), "tests.add", "cpu", 3, {"x": 1})
    with autocommit() as connection:
        ledger.submit(connection, [job])

    with make_client() as client:
        client.lpush("cpu", hostile.text(hostile.honest(job.id, "tests.poison")))
        client.lpush("cpu", hostile.text(hostile.honest(job.id, "no.such")))
    wait_until_recorded(running, 2)

    assert row(str(job.id)).state in ("PENDING", "SUCCESS")
    assert jobs.add.AsyncResult(str(job.id)).get(timeout=60) == 2
    assert starts(str(job.id)) == 1
    assert row(str(job.id)).attempt == 1


def test_what_may_be_sent_to_remote_control_does_not_end_a_worker(running: Process) -> None:
    before = processes(running)

    with make_client() as client:
        for message in (b"", b"[" * 100_000, b"5", b"{}", b'{"properties": 5}', hostile.text(hostile.honest())):
            client.publish("/0.celery.pidbox", message)

    assert jobs.add.submit(x=1).get(timeout=30) == 2
    assert processes(running) == before


def test_a_worker_starts_although_there_is_garbage_among_what_others_did_not_acknowledge(quiet: Path) -> None:
    garbage = [b"", b"\xff", b"[1]", b"[" * 100_000, b'[5, "", "cpu"]', b'[{"headers": {}, "properties": {}}, "", {}]']
    with make_client() as client:
        for number, raw in enumerate(garbage):
            client.hset("unacked", str(number), raw)
            client.zadd("unacked_index", {str(number): 1})

        worker = start_worker(quiet)
        try:
            assert jobs.add.submit(x=1).get(timeout=30) == 2
            assert client.hmget("unacked", *map(str, range(len(garbage)))) == [None] * len(garbage)
        finally:
            worker.stop()
