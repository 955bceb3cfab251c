"""Starts the project's own processes for a test, waits for the line that says they are ready, and stops them."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
JOBS = "tests.jobs,tests.chaos.jobs"


class Process:
    """A child process whose output is read line by line."""

    def __init__(self, arguments: Sequence[str], home: Path, **variables: str) -> None:
        environment = {**os.environ, "GRISTMILL_HOME": str(home), "GRISTMILL_JOBS": JOBS, "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = str(ROOT)
        self.lines: list[str] = []
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self.popen = subprocess.Popen(
            arguments, cwd=ROOT, env={**environment, **variables}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.append(line)
            self._waiting.put(line)
        self._waiting.put(None)

    def wait_for(self, text: str, timeout: float = 60) -> str:
        """The first line from now on that contains the text."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._waiting.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"{text!r} did not appear in:\n{''.join(self.lines[-60:])}")
            if text in line:
                return line

    def stop(self, timeout: float = 20) -> int:
        """SIGTERM, and SIGKILL to its whole session when that is not heeded."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        return self.popen.wait()

    def kill(self) -> None:
        """SIGKILL to the process and its children."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def start_worker(
    home: Path, *, name: str = "cpu", concurrency: int = 2, queues: str = "cpu", app: str = "broker.app", **env: str
) -> Process:
    """A Celery worker of this project, ready to take jobs."""
    celery = [sys.executable, "-m", "celery", "-A", app, "worker", "-n", f"{name}@test", "-Q", queues]
    options = ["-c", str(concurrency), "--without-gossip", "--without-mingle", "-l", "INFO"]
    process = Process([*celery, *options], home, **env)
    process.wait_for("ready.")
    return process


def start_relay(home: Path, **env: str) -> Process:
    """A relay, ready."""
    process = Process([sys.executable, "-c", "from workers.relay import main; main()"], home, **env)
    process.wait_for("relay_ready")
    return process
