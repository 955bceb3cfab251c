"""The embedded servers, started over everything that a killed run leaves behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import psycopg
import pytest

import broker.embedded
import db.embedded
from db.place import ServerError, gone, server_process

PID_FILES = {"db.embedded": "postgres/postmaster.pid", "broker.embedded": "redis/redis.pid"}
PROGRAMS = {"db.embedded": "postgres", "broker.embedded": "redis-server"}


@pytest.fixture(params=[db.embedded, broker.embedded], ids=["postgres", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ModuleType]:
    yield request.param
    for home in tmp_path.iterdir():
        request.param.stop(home)


def process(server: ModuleType, home: Path) -> psutil.Process:
    pid_file = home / PID_FILES[server.__name__]
    found = server_process(pid_file, PROGRAMS[server.__name__], pid_file.parent)
    assert found is not None
    return found


def kill(server: ModuleType, home: Path) -> None:
    victim = process(server, home)
    victim.send_signal(signal.SIGKILL)
    assert gone(victim, 10)


def connect(home: Path) -> psycopg.Connection:
    url = db.embedded.url(home)
    assert url is not None
    return psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True)


def test_it_starts_stops_and_starts_again(server: ModuleType, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert not server.running(home)

    url = server.start(home)
    assert server.running(home)
    server.stop(home)
    assert not server.running(home)

    assert server.start(home) == url


def test_starting_and_stopping_twice_does_no_harm(server: ModuleType, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server.start(home)
    first = process(server, home)

    server.start(home)
    assert process(server, home) == first

    server.stop(home)
    server.stop(home)


def test_it_starts_after_it_was_killed(server: ModuleType, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server.start(home)
    kill(server, home)
    assert not server.running(home)

    server.start(home)

    assert server.running(home)


def test_it_starts_over_a_pid_file_that_names_a_stranger(server: ModuleType, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server.start(home)
    pid_file = home / PID_FILES[server.__name__]
    _, *rest = pid_file.read_text().splitlines()
    kill(server, home)
    pid_file.write_text("\n".join([str(os.getpid()), *rest, ""]))
    assert not server.running(home)

    server.start(home)

    assert server.running(home)
    assert process(server, home).pid != os.getpid()


def test_it_starts_over_a_truncated_pid_file(server: ModuleType, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server.start(home)
    server.stop(home)
    (home / PID_FILES[server.__name__]).write_text("12")

    server.start(home)

    assert server.running(home)


@pytest.mark.parametrize("name", ["x" * 120, "a b $c 'd'"], ids=["too long for a socket", "odd characters"])
def test_any_home_will_do(server: ModuleType, tmp_path: Path, name: str) -> None:
    home = tmp_path / name

    server.start(home)

    assert server.running(home)


def test_two_processes_at_once_start_one_server(server: ModuleType, tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = f"import {server.__name__} as s, pathlib; print(s.start(pathlib.Path({str(home)!r})))"

    both = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {child.communicate(timeout=60)[0] for child in both}

    assert [child.returncode for child in both] == [0, 0]
    assert len(answers) == 1
    assert server.running(home)


def test_an_initialisation_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "postgres.new").mkdir(parents=True)
    (home / "postgres.new" / "PG_VERSION").write_text("18\n")

    try:
        db.embedded.start(home)
        assert db.embedded.running(home)
    finally:
        db.embedded.stop(home)


def test_rows_and_keys_survive_a_kill(tmp_path: Path) -> None:
    try:
        db.embedded.start(tmp_path)
        broker.embedded.start(tmp_path)
        with connect(tmp_path) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        with broker.embedded._client(tmp_path) as client:
            client.set("kept", "1")
        kill(db.embedded, tmp_path)
        kill(broker.embedded, tmp_path)

        db.embedded.start(tmp_path)
        broker.embedded.start(tmp_path)

        with connect(tmp_path) as connection:
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
        with broker.embedded._client(tmp_path) as client:
            assert client.get("kept") == b"1"
    finally:
        db.embedded.stop(tmp_path)
        broker.embedded.stop(tmp_path)


def test_a_server_that_cannot_start_says_why_and_where_its_log_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "redis").mkdir(parents=True)
    (home / "redis" / "appendonly.aof").write_text("this is no append-only file\n")

    with pytest.raises(ServerError, match=r"Redis does not start: .*server\.log"):
        broker.embedded.start(home)
