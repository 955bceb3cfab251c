"""What a benchmark run starts ends with it, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from db.place import gone

ROOT = Path(__file__).parents[2]
RUN = """
import sys
from benchmarks.services import services, worker
from db.embedded import _postmaster
with services() as home, worker("broker.app", "cpu", 1) as process:
    redis = (home / "redis" / "redis.pid").read_text()
    print(home, process.pid, _postmaster(home).process.pid, redis, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("ending", [None, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run(tmp_path: Path, ending: signal.Signals | None) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert run.stdout is not None
    home, *pids = run.stdout.readline().split()
    started = [psutil.Process(int(pid)) for pid in pids]

    if ending is not None:
        run.send_signal(ending)
    _, said = run.communicate(timeout=90)  # what cleans up holds the pipe of stderr until it has

    assert (run.returncode, said) == (0 if ending is None else -ending, "")
    assert all(gone(process, 0) for process in started)
    assert not Path(home).exists()
