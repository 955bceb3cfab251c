"""Real servers and workers for one benchmark run, under a temporary home, stopped at its end, whatever ends it."""

import os
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
    home = (kept or Path(tempfile.mkdtemp(prefix="gristmill-bench-"))).absolute()
    os.environ.update(GRISTMILL_HOME=str(home), GRISTMILL_JOBS="benchmarks.jobs")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    from workers.up import start_servers

    # Another process cleans up: a run may be killed, or told a second time to end while it cleans up (`timeout` tells
    # the process and its group), which once left the servers running.
    guard = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.guard", str(home), *(["keep"] if kept else [])],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        start_servers(say=lambda _: None)
        yield home
    finally:
        guard.communicate()  # closes the pipe, and waits


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
