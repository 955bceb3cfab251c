"""What doctor finds with real servers, and what it advises."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

import broker.settings
import db.settings
from broker.settings import make_client
from db import ledger
from db.engine import dispose, engine
from db.settings import settings
from tests import jobs
from tests.processes import start_relay, start_worker
from workers import doctor
from workers.doctor import Check, as_data, diagnose

T = TypeVar("T")


def checks() -> dict[str, Check]:
    return {check.name: check for check in diagnose()}


def until(look: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """The first answer that is enough, within a minute."""
    deadline = time.monotonic() + 60
    while not enough(found := look()):
        assert time.monotonic() < deadline, found
    return found


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Change variables; the settings and the pool of this process follow, and go back afterwards."""

    def forget() -> None:
        db.settings.settings.cache_clear()
        broker.settings.settings.cache_clear()
        dispose()

    forget()
    yield monkeypatch
    monkeypatch.undo()
    forget()


def test_all_is_well_with_servers_migrated_and_a_worker_for_its_queue(worker: object) -> None:
    found = checks()

    assert [name for name, check in found.items() if not check.ok] == ["queues"]
    assert found["queues"].facts["without_worker"] == ["gpu"]
    assert found["queues"].facts["workers"] == {"cpu@test": ["cpu"]}
    assert found["queues"].remedy == "gristmill worker gpu"


def test_a_queue_with_due_jobs_that_no_worker_takes_from_is_a_fault(worker: object) -> None:
    jobs.nothing.apply_async(queue="gpu.none")
    jobs.nothing.apply_async(queue="gpu.other", countdown=60)

    check = checks()["waiting"]

    assert not check.ok
    assert check.found.startswith("gpu.none: 1 due, the oldest for ")
    assert check.found.endswith(" s, and no worker answers that takes them")
    assert check.remedy == "gristmill worker gpu --queue gpu.none"
    assert (check.facts["gpu.none"]["waiting"], check.facts["gpu.other"]["later"]) == (1, 1)


def test_what_was_lost_in_the_last_hour_is_told_and_is_no_fault(worker: object) -> None:
    with pytest.raises(ValueError, match="attempt 3 went wrong"):
        jobs.fail.submit().get(timeout=30)
    with make_client() as client:
        client.lpush("cpu", b"not a message")

    check = until(lambda: checks()["last hour"], lambda check: bool(check.facts["dropped"]))

    assert check.ok
    assert (check.facts["attempts"], check.facts["charged"], check.facts["retries"]) == (3, 3, 2)
    assert (check.facts["leases_lost"], check.facts["dropped"]) == (0, 1)
    assert check.found.startswith(
        "3 attempts, 3 charged; 2 retries; 0 leases lost and rescued; 0 processes lost; 1 mess"
    )


def test_a_stopped_relay_and_a_worker_that_hangs_are_found_and_what_was_lost_is_told_when_they_are_back(
    clean_db: Path, fresh: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh.setattr(doctor, "RELAY_SECONDS", 0.5)
    fresh.setattr(doctor, "AGAIN_SECONDS", 0.5)
    lease = {"GRISTMILL_LEASE_SECONDS": "3"}
    fresh.setenv(*next(iter(lease.items())))
    broker.settings.settings.cache_clear()
    worker = start_worker(clean_db, name="own", queues="cpu,gpu", **lease)
    relay = None
    try:
        assert until(lambda: as_data(diagnose()), lambda found: bool(found["ok"]))  # a busy worker may answer late
        running = jobs.step.submit(go=str(tmp_path / "go"))
        until(lambda: running.state, lambda state: state == "STARTED")
        os.killpg(worker.popen.pid, signal.SIGSTOP)
        later = jobs.nothing.apply_async(countdown=0.1)

        stuck = until(checks, lambda found: found["relay"].facts == {"unsent": 1, "overdue": 1, "hanging": []})
        assert stuck["relay"].remedy == "gristmill relay"
        assert not stuck["relay"].ok
        assert stuck["queues"].facts["without_worker"] == ["gpu", "cpu"]
        assert stuck["waiting"].facts["cpu"]["waiting"] == 1

        relay = start_relay(clean_db, **lease)
        back = until(checks, lambda found: found["last hour"].facts["leases_lost"] == 1)
        assert back["last hour"].facts["last_lost_by"].startswith("own@test#")
        assert until(checks, lambda found: bool(found["relay"].ok))["waiting"].facts["cpu"]["waiting"] == 2
        (tmp_path / "go").touch()
        os.killpg(worker.popen.pid, signal.SIGCONT)
        assert running.get(timeout=60) == "gone"
        assert later.get(timeout=60) is None
        assert until(lambda: as_data(diagnose()), lambda found: bool(found["ok"]))
    finally:
        worker.kill()
        if relay:
            relay.stop()


def test_a_worker_that_hangs_in_a_transaction_is_named_since_no_relay_can_take_its_job(
    clean_db: Path, fresh: pytest.MonkeyPatch
) -> None:
    fresh.setattr(doctor, "AGAIN_SECONDS", 0.1)
    fresh.setenv("GRISTMILL_LEASE_SECONDS", "0.001")
    fresh.setattr(doctor, "RELAY_SECONDS", 0)
    result = jobs.nothing.submit()
    with engine().connect() as connection, connection.begin():
        ledger.claim(connection, UUID(result.id), "hanging@test#1", -1)
    with engine().connect() as connection, connection.begin():
        connection.execute(text("SELECT FROM job FOR NO KEY UPDATE"))

        check = checks()["relay"]

    assert not check.ok
    assert check.found.endswith(
        "lost their lease and are not taken back; an open transaction holds rows of hanging@test#1"
    )
    assert check.remedy.startswith("end the hanging processes of hanging@test#1")


def test_the_probe_of_the_artifacts_leaves_nothing_behind(clean_db: Path) -> None:
    assert checks()["artifacts"].ok

    assert list((clean_db / "artifacts").glob(".probe-*")) == []


def test_artifacts_that_cannot_be_written_are_named(clean_db: Path, fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fresh.setenv("GRISTMILL_ARTIFACTS_URL", f"file://{tmp_path}/file/artifacts")

    check = checks()["artifacts"]

    assert not check.ok
    assert check.found.startswith(f"file://{tmp_path}/file/artifacts: ")
    assert check.remedy == "make it writable, or correct GRISTMILL_ARTIFACTS_URL"


def test_a_database_without_our_tables_is_told_to_migrate(clean_db: Path, fresh: pytest.MonkeyPatch) -> None:
    with psycopg.connect(settings().postgres_url().replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS empty")
        connection.execute("CREATE DATABASE empty")
    fresh.setenv("GRISTMILL_DATABASE_URL", settings().postgres_url().replace("/gristmill?", "/empty?"))
    db.settings.settings.cache_clear()

    check = checks()["postgres"]

    assert not check.ok
    assert check.remedy == "gristmill migrate"


def test_servers_that_do_not_answer_are_named_without_their_password(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv("GRISTMILL_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/mill")
    fresh.setenv("GRISTMILL_BROKER_URL", "redis://:secret@127.0.0.1:1/0")

    found = diagnose()

    assert "secret" not in str(as_data(found))
    failed = {check.name: check.remedy for check in found if check.ok is False}
    assert [check.name for check in found if check.ok is None] == ["queues", "waiting", "relay", "last hour"]
    assert failed == {
        "postgres": "start it, or correct GRISTMILL_DATABASE_URL",
        "redis": "start it (`gristmill up`), or correct GRISTMILL_BROKER_URL",
    }


def test_a_redis_that_may_evict_messages_is_a_fault(clean_db: Path) -> None:
    with make_client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            check = checks()["redis"]
        finally:
            client.config_set("maxmemory-policy", "noeviction")

    assert not check.ok
    assert check.remedy == "set maxmemory-policy noeviction"
