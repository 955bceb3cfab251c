"""Redis and the rows hold data: nothing in them names code, and what is garbled there is passed over."""

import base64
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text

import broker.settings
import db.settings
from broker import relay
from broker.app import app
from broker.dropped import A_MINUTE, Recorder
from broker.publish import lengths, queued_ids
from broker.settings import make_client
from db import dropped, ledger
from db.dropped import Dropped, DroppedMessage
from db.engine import autocommit, dispose, session
from db.ledger import NewJob
from tests import hostile, jobs
from tests.hostile import Evil
from tests.processes import Process
from workers.doctor import diagnose

GARBAGE = hostile.classes(Path("/none"), huge_bytes=100_000)


def on_the_queue(raw: bytes) -> None:
    with make_client() as client:
        client.lpush("cpu", raw)


def rows() -> list[DroppedMessage]:
    with session() as opened:
        return list(opened.scalars(select(DroppedMessage).order_by(DroppedMessage.id)))


# Who only looks at a queue.


def test_the_relay_sends_again_what_is_lost_among_garbage(clean_db: Path) -> None:
    there, lost = jobs.add.submit(x=1), NewJob(uuid4(), "tests.add", "cpu", 3, {"x": 1})
    with autocommit() as connection:
        ledger.submit(connection, [lost])
    garbage = [make(Random(seed)) for make in GARBAGE.values() for seed in range(5)]
    for raw in garbage:
        on_the_queue(raw)

    present = queued_ids("cpu")

    assert UUID(there.id) in present
    assert lost.id not in present
    assert lengths(["cpu"]) == {"cpu": len(garbage) + 1}
    relay.reconcile(0)  # garbage may hide the loss for as long as it lies there, and no longer
    with make_client() as client:
        client.delete("cpu")
    assert relay.reconcile(0) >= 1
    relay.tick()
    assert lost.id in queued_ids("cpu")


def test_doctor_and_the_queues_of_the_ledger_do_not_mind_garbage(clean_db: Path) -> None:
    for make in GARBAGE.values():
        on_the_queue(make(Random(1)))

    found = {check.name: check.ok for check in diagnose()}

    assert found["redis"]
    assert found["waiting"]


# What may be recorded of it.


@pytest.fixture
def postgres_away(clean_db: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    def away(is_away: bool) -> None:
        if is_away:
            monkeypatch.setenv("GRISTMILL_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
        else:
            monkeypatch.delenv("GRISTMILL_DATABASE_URL")
        for module in (db.settings, broker.settings):
            module.settings.cache_clear()
        dispose()

    return away


class Quiet(Recorder):
    """One without its thread: the test says when it writes."""

    def _begin(self) -> None:
        pass


def test_a_flood_is_counted_and_not_recorded_one_by_one(clean_db: Path) -> None:
    recorder = Quiet()

    for number in range(A_MINUTE + 5000):
        recorder.drop("cpu", "because", b"\0\xff {" + str(number).encode())
    recorder.write(everything=True)

    found = rows()
    assert len(found) == A_MINUTE + 1
    assert (found[0].queue, found[0].reason, found[0].excerpt) == ("cpu", "because", r"\x00\xff {0")
    assert found[-1].reason == "5,000 more, too many to record each"
    assert sum(each.messages for each in found) == A_MINUTE + 5000


def test_what_was_dropped_while_postgres_was_away_is_recorded_afterwards(
    postgres_away: Callable[[bool], None],
) -> None:
    recorder = Quiet()
    postgres_away(True)
    recorder.drop("cpu", "because", b"first")
    with pytest.raises(Exception, match="connection"):
        recorder.write()
    for _ in range(3 * A_MINUTE):
        recorder.drop("cpu", "because", b"second")

    postgres_away(False)
    recorder.write(everything=True)

    assert len(rows()) == A_MINUTE + 1
    assert rows()[0].excerpt == "first"


def test_the_table_keeps_the_newest(clean_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "KEPT", 5)
    with autocommit() as connection:
        at = connection.execute(text("SELECT now()")).scalar_one()
        for number in range(4):
            dropped.record(connection, [Dropped(at, "cpu", f"{number}.{each}", "") for each in range(3)])

    assert [each.reason for each in rows()] == ["2.1", "2.2", "3.0", "3.1", "3.2"]


# Who reads results and answers.


def answered(*garbage: bytes) -> list[dict[str, Any]]:
    """What a client takes for workers' answers to a ping, where this lies before them."""
    with app.connection() as connection, make_client() as client:
        mailbox = app.control.mailbox(connection)
        client.lpush(mailbox.reply_queue.name, *garbage)
        answers: list[dict[str, Any]] = mailbox.multi_call("ping", timeout=1)
        return answers


def test_a_pickled_answer_to_remote_control_is_not_unpickled(clean_db: Path, tmp_path: Path) -> None:
    answer = {
        **hostile.honest(),
        "body": base64.b64encode(pickle.dumps(Evil(tmp_path / "unpickled"))).decode(),
        "content-type": "application/x-python-serialize",
        "content-encoding": "binary",
    }

    assert answered(json.dumps(answer).encode()) == []
    assert not (tmp_path / "unpickled").exists()


def test_a_garbled_answer_to_remote_control_is_passed_over(clean_db: Path) -> None:
    garbage = [b"", b"\xff", b"[" * 100_000, b"5", b"{}", b'{"properties": {"delivery_tag": 1}, "body": 5}']

    assert answered(*garbage) == []


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [("os", "system", "touch {}"), ("pathlib", "Path.touch", "{}"), ("intruder", "Intrusion", "{}")],
)
def test_the_error_of_a_row_names_no_code(
    clean_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, message: str
) -> None:
    (tmp_path / "intruder.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    error = {"module": module, "type": name, "message": message.format(tmp_path / "trace"), "traceback": None}
    with session() as opened:
        (job_id,), _ = ledger.submit(
            opened, [NewJob(uuid4(), "tests.add", "cpu", 3, {"x": 1}, state="FAILURE", error=error)]
        )

    with pytest.raises(Exception, match=r"trace|SecurityError|Expected"):
        app.AsyncResult(str(job_id)).get(timeout=5)

    assert not (tmp_path / "trace").exists()
    assert "intruder" not in sys.modules


@pytest.mark.usefixtures("clean_db")
def test_remote_control_imports_nothing(worker: Process) -> None:
    with app.connection() as connection:  # one that knows that the queue of its answers was flushed
        (answer,) = app.control.broadcast(
            "pool_restart",
            arguments={"modules": ["antigravity"]},
            reply=True,
            timeout=10,
            limit=1,
            connection=connection,
        )

    assert "Pool restarts not enabled" in str(answer)
    assert jobs.add.submit(x=1).get(timeout=30) == 2
