"""What doctor finds with real servers, and what it advises."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import broker.settings
import db.settings
from broker.settings import make_client
from db.engine import dispose
from db.settings import settings
from workers.doctor import Check, as_data, diagnose


def checks() -> dict[str, Check]:
    return {check.name: check for check in diagnose()}


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
    failed = {check.name: check.remedy for check in found if not check.ok}
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
