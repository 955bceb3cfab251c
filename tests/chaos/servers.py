"""Takes the embedded servers of a test away and brings them back."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import redis

import broker.embedded
import db.embedded
from db.place import gone, server_process


def postgres(home: Path) -> psutil.Process:
    """The postmaster."""
    found = server_process(home / "postgres/postmaster.pid", "postgres", home / "postgres")
    assert found is not None
    return found


@contextmanager
def postgres_away(home: Path, how: str = "stopped") -> Iterator[None]:
    """Postgres is not there in this block: "stopped" in order, "killed" by SIGKILL, or "paused", which hangs."""
    if how == "paused":
        server = postgres(home)
        frozen = [server, *server.children(recursive=True)]
        for process in frozen:
            process.suspend()
        try:
            yield
        finally:
            for process in reversed(frozen):
                process.resume()
        return
    if how == "killed":
        server = postgres(home)
        server.send_signal(signal.SIGKILL)
        assert gone(server, 20)
    else:
        db.embedded.stop(home)
    try:
        yield
    finally:
        db.embedded.start(home)


@contextmanager
def redis_away(home: Path) -> Iterator[None]:
    """Redis is stopped in this block."""
    broker.embedded.stop(home)
    try:
        yield
    finally:
        broker.embedded.start(home)


def restart_redis_without_its_data(home: Path) -> None:
    """What a killed Redis without persistence comes back as."""
    data = home / "redis"
    server = server_process(data / "redis.pid", "redis-server", data)
    assert server is not None
    server.send_signal(signal.SIGKILL)
    assert gone(server, 20)
    for path in data.glob("*.aof"):
        path.unlink()
    shutil.rmtree(data / "appendonlydir", ignore_errors=True)
    broker.embedded.start(home)


class Watched:
    """A Redis master without persistence, its replica, and a sentinel that promotes the replica."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[subprocess.Popen[bytes]] = []
        self.master, self.replica, self.sentinel = (free_port() for _ in range(3))
        self.url = f"sentinel://127.0.0.1:{self.sentinel}/mill/0"

    def start(self) -> None:
        """All three, watching each other."""
        self._launch(self.master)
        self._launch(self.replica, "--replicaof", "127.0.0.1", str(self.master), "--replica-read-only", "no")
        config = self.folder / "sentinel.conf"
        config.write_text(
            f"port {self.sentinel}\nbind 127.0.0.1\nsentinel monitor mill 127.0.0.1 {self.master} 1\n"
            "sentinel down-after-milliseconds mill 1000\nsentinel failover-timeout mill 10000\n"
        )
        self._launch(self.sentinel, config=config)
        with client(self.sentinel) as asked:
            until(lambda: len(asked.sentinel_slaves("mill")) == 1)
        with client(self.replica) as asked:
            until(lambda: asked.info("replication")["master_link_status"] == "up")

    def fail_over(self, *, demote: bool) -> None:
        """The replica becomes the master; the one before is killed, or goes on as a replica that refuses writes."""
        with client(self.sentinel) as asked:
            if demote:
                asked.execute_command("SENTINEL", "FAILOVER", "mill")
            else:
                self.servers[0].kill()
            until(lambda: int(asked.sentinel_get_master_addr_by_name("mill")[1]) == self.replica)
        if demote:
            with client(self.master) as asked:
                until(lambda: asked.info("replication")["role"] == "slave")

    def stop(self) -> None:
        """All that still run."""
        for server in self.servers:
            server.kill()
            server.wait(20)

    def _launch(self, port: int, *options: str, config: Path | None = None) -> None:
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder), *options]
        given = arguments if config is None else [str(config), "--sentinel", "--dir", str(self.folder)]
        log = (self.folder / f"{port}.log").open("wb")
        self.servers.append(subprocess.Popen([broker.embedded._binary(), *given], stdout=log))
        with client(port) as asked:
            until(asked.ping)


def client(port: int) -> redis.Redis:
    """A client of a server on the loopback address."""
    return redis.Redis(port=port, socket_timeout=5, retry=broker.embedded.AT_ONCE)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], object], within_s: float = 60) -> None:
    """Wait for what a server can only be asked about."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if holds():
                return
        except redis.ConnectionError:
            pass
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
