"""Real servers and workers for one benchmark run, under a temporary home, stopped at its end."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def services(kept: Path | None = None) -> Iterator[Path]:
    """Embedded Postgres and Redis, migrated. A user's own servers are never benchmarked by accident.

    kept: a home that stays, with its rows and artifacts, for a run that goes on where this one ends.
    """
    for name in [name for name in os.environ if name.startswith("GRISTMILL_")]:
        del os.environ[name]
    home = kept or Path(tempfile.mkdtemp(prefix="gristmill-bench-"))
    os.environ.update(GRISTMILL_HOME=str(home), GRISTMILL_JOBS="benchmarks.jobs")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    from workers.up import start_servers, stop_servers

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stopped from outside, it still stops what it started
    try:
        start_servers(say=lambda _: None)
        yield home
    finally:
        stop_servers()
        if kept is None:
            shutil.rmtree(home, ignore_errors=True)


@contextmanager
def worker(
    app: str, queue: str, processes: int, options: Sequence[str] = (), **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker process of this app, the leader of its own group; stopped at the end of the block."""
    command = [sys.executable, "-m", "celery", "-q", "-A", app, "worker", "-Q", queue, "-c", str(processes)]
    quiet = ["--without-gossip", "--without-mingle", "--loglevel=ERROR"]
    with _running([*command, *quiet, *options], env) as process:
        yield process


@contextmanager
def relay() -> Iterator[None]:
    """The relay, without which a fan-out's parent is never told that its children are final."""
    with _running([sys.executable, "-m", "workers", "relay"], {}):
        yield


@contextmanager
def _running(command: Sequence[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **env}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
