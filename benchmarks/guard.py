"""Stops what a benchmark run started, once the run has ended, be it by a second SIGTERM or by SIGKILL.

Started by `benchmarks.services` as `python -m benchmarks.guard HOME [keep]`; its standard input is a pipe that the run
holds open as long as it lives.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

import broker.embedded
import db.embedded
from db.place import gone

SERVERS = ("postgres", "redis-server")  # which are stopped last, each in its own way


def end(home: Path) -> None:
    """Stop the workers, the relay and the servers of this home."""
    stop([process for process in psutil.process_iter() if _is_of(process, home)], home, 20)


def stop(processes: Sequence[psutil.Process], home: Path, seconds: float) -> None:
    """These, killed where they have not ended after so many seconds each; then the servers of the home."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in processes:
        if not gone(process, seconds):
            process.kill()
    broker.embedded.stop(home)
    db.embedded.stop(home)


def _is_of(process: psutil.Process, home: Path) -> bool:
    if process.pid in (os.getpid(), os.getppid()):
        return False
    try:
        return process.environ().get("GRISTMILL_HOME") == str(home) and process.name() not in SERVERS
    except (OSError, psutil.Error):
        return False


if __name__ == "__main__":
    sys.stdin.read()
    of = Path(sys.argv[1])
    end(of)
    if "keep" not in sys.argv[2:]:
        shutil.rmtree(of, ignore_errors=True)
