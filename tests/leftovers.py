"""Ends what a killed test run left behind: its processes, its servers, its home folder."""

import os
import shutil
import tempfile
from pathlib import Path

import psutil

from benchmarks.guard import stop

PREFIX = "gristmill-test-"
TAG = "PYTEST_GRISTMILL_HOME"  # in the environment of all that a test run starts


def claim(home: Path) -> None:
    """Mark the home as that of this living process, and everything that it starts."""
    me = psutil.Process()
    (home / "owner").write_text(f"{me.pid} {me.create_time()}")
    os.environ[TAG] = str(home)


def sweep() -> None:
    """Clear away every home of ours whose test run is dead."""
    for home in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if home.stat().st_uid == os.geteuid() and (home / "owner").exists() and not _owned(home):
            end(home)


def end(home: Path) -> None:
    """Stop what runs for this home, and remove it."""
    stop([process for process in psutil.process_iter() if _tag(process) == str(home)], home, 10)
    shutil.rmtree(home, ignore_errors=True)


def _owned(home: Path) -> bool:
    try:
        pid, started = (home / "owner").read_text().split()
        return psutil.Process(int(pid)).create_time() == float(started)
    except (OSError, ValueError, psutil.Error):
        return False


def _tag(process: psutil.Process) -> str | None:
    if process.pid == os.getpid():
        return None
    try:
        return process.environ().get(TAG)
    except (OSError, psutil.Error):
        return None
