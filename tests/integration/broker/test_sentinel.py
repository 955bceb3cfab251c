"""A broker behind Redis Sentinel: the same URL serves Celery's transport and our own client."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import kombu
import pytest
import redis

import broker.settings
from broker.embedded import _binary
from broker.settings import make_client, redis_url, transport_options


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with redis.Redis(port=port, password="pw" if port else None) as client:
            return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except redis.ConnectionError:
        return False


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[str]:
    """A master with a password and one sentinel that watches it."""
    master, watcher = free_port(), free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {watcher}\nbind 127.0.0.1\ndir {tmp_path}\n"
        f"sentinel monitor mymaster 127.0.0.1 {master} 1\nsentinel auth-pass mymaster pw\n"
    )
    local = ["--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    servers = [
        subprocess.Popen([_binary(), "--port", str(master), "--requirepass", "pw", *local], stdout=subprocess.DEVNULL),
        subprocess.Popen([_binary(), str(config), "--sentinel"], stdout=subprocess.DEVNULL),
    ]
    deadline = time.monotonic() + 20
    while not (answers(master) and answers(watcher)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield f"sentinel://:pw@127.0.0.1:{watcher}/mymaster/1"
    for server in servers:
        server.terminate()
        server.wait(20)


def test_the_broker_and_the_cache_reach_the_same_master(sentinel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_BROKER_URL", sentinel)
    broker.settings.settings.cache_clear()

    try:
        with kombu.Connection(redis_url(), transport_options=transport_options()) as connection:
            connection.SimpleQueue("mill").put("grist")
            with make_client() as client:
                assert client.llen("mill") == 1
    finally:
        broker.settings.settings.cache_clear()
