"""Promise 7: a job that kills its process or its worker, or exhausts memory, is bounded, and ends with the reason.

What runs beside it in other processes is not even disturbed. A worker's loss costs each of its jobs an attempt: nobody
can tell which of them it was.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from broker.app import app
from tests.chaos import hard_jobs
from tests.chaos.ledger import starts, wait_for_all
from tests.jobs import add
from tests.processes import Process, start_relay, start_worker
from tests.rows import row

JOBS = "tests.jobs,tests.chaos.hard_jobs"
LEASE_S = 3
pytestmark = pytest.mark.timeout(600)
ENV = {"GRISTMILL_LEASE_SECONDS": str(LEASE_S), "GRISTMILL_JOBS": JOBS}
Figure = Callable[[int, str], None]

REASONS = {
    "SIGKILL": "the job's process was killed by signal 9 (perhaps out of memory)",
    "segfault": "the job's process was killed by signal 11 (segmentation fault): a fault in native code",
    "exit": "the job's process ended with exit code 3 before the job did",
    "memory": "out of memory",
}


@pytest.fixture
def attempts(full: bool) -> int:
    """How often a poison may start. Each time a new process has to come up."""
    return 3 if full else 2


@pytest.fixture(autouse=True)
def relay(quiet: Path) -> Iterator[Process]:
    process = start_relay(quiet, **ENV)
    yield process
    process.stop()


@pytest.fixture
def worker(quiet: Path) -> Iterator[Process]:
    process = start_worker(quiet, concurrency=3, **ENV)
    yield process
    process.stop()


def poison(how: str, attempts: int, after_s: float = 0) -> str:
    asked = {"how": how, "after_s": after_s}
    return str(hard_jobs.poison.apply_async(kwargs=asked, max_attempts=attempts).id)


def reason(job_id: str, attempts: int) -> str:
    """Why the job failed, which it has to, after exactly as many starts as it has attempts."""
    app.AsyncResult(job_id).get(timeout=300, propagate=False)
    failed = row(job_id)
    assert failed.state == "FAILURE"
    assert starts([job_id]) == {job_id: attempts}
    assert failed.error is not None
    return str(failed.error["message"])


def test_poison_ends_with_its_reason_and_what_runs_beside_it_does_not_notice(
    worker: Process, tmp_path: Path, attempts: int, figure: Figure
) -> None:
    innocents = [hard_jobs.innocent.submit(go=str(tmp_path / "go")).id]
    innocents += hard_jobs.innocent.submit_many([{"seconds": 0.1}] * 10)
    poisons = {how: poison(how, attempts) for how in REASONS}
    innocents += hard_jobs.innocent.submit_many([{"seconds": 0.1}] * 10)

    found = {how: reason(job_id, attempts) for how, job_id in poisons.items()}
    (tmp_path / "go").touch()

    assert found == REASONS
    wait_for_all(innocents, within_s=60)
    assert set(starts(innocents).values()) == {1}
    assert worker.popen.poll() is None  # the same worker, with other children
    assert add.submit(x=1).get(timeout=30) == 2
    figure(
        7,
        f"{len(poisons)} kinds of poison: {attempts} of {attempts} starts each, FAILURE with the reason; 21 beside: 1",
    )


SUPERVISED = """
import sys
from workers.process import worker_command
from workers.supervisor import Supervisor
group = Supervisor()
group.add("cpu", worker_command("cpu", ["cpu"], 2))
sys.exit(group.run())
"""


def test_a_job_that_kills_its_worker_is_bounded_and_the_worker_comes_back(
    quiet: Path, attempts: int, figure: Figure
) -> None:
    supervised = Process([sys.executable, "-c", SUPERVISED], quiet, **ENV)
    try:
        supervised.wait_for("ready.")
        # More attempts than the poison has: whoever is beside it each time loses one each time.
        innocents = [
            hard_jobs.innocent.apply_async(kwargs={"seconds": 0.3}, max_attempts=attempts + 1).id for _ in range(20)
        ]
        killer = poison("worker", attempts, after_s=0.1)

        said = reason(killer, attempts)

        assert said.startswith("the lease of worker cpu@")
        assert said.endswith("ran out: the worker or its machine was lost")
        wait_for_all(innocents, within_s=120)
        charged = sum(starts(innocents).values()) - len(innocents)
        assert charged <= attempts  # a worker of two processes: one beside the poison, each time
        assert "killed by signal 9 (perhaps out of memory): starting it again" in "".join(supervised.lines)
        figure(
            7,
            f"a job that kills its whole worker: {attempts} of {attempts} starts; 20 beside it were charged {charged}",
        )
    finally:
        supervised.stop()


@pytest.fixture
def cage() -> Iterator[Path]:
    """A memory cgroup of the kernel's, in which a process that takes more than 400 MB is killed."""
    folder = _hierarchy() / f"gristmill-{psutil.Process().pid}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here (this needs root): {error}")
    (folder / ("memory.max" if (folder / "memory.max").exists() else "memory.limit_in_bytes")).write_text("400M")
    yield folder
    deadline = time.monotonic() + 20  # what was killed in it leaves it in its own time
    while (folder / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    folder.rmdir()


def _hierarchy() -> Path:
    """Where memory cgroups are made: version 2, or 1."""
    for mount in (line.split() for line in Path("/proc/self/mounts").read_text().splitlines()):
        place, kind, options = Path(mount[1]), mount[2], mount[3].split(",")
        if kind == "cgroup" and "memory" in options:
            return place
        if kind == "cgroup2" and "memory" in (place / "cgroup.subtree_control").read_text().split():
            return place
    pytest.skip("the kernel offers no memory cgroups here")


def test_what_the_kernel_kills_for_its_memory_says_so(
    cage: Path, worker: Process, tmp_path: Path, attempts: int, figure: Figure
) -> None:
    for process in (psutil.Process(worker.popen.pid), *psutil.Process(worker.popen.pid).children(recursive=True)):
        (cage / "cgroup.procs").write_text(str(process.pid))
    beside = hard_jobs.innocent.submit(go=str(tmp_path / "go"))
    hoard = poison("hoard", attempts)

    said = reason(hoard, attempts)
    (tmp_path / "go").touch()

    assert said == REASONS["SIGKILL"]
    assert beside.get(timeout=30) == "done"
    assert starts([beside.id]) == {beside.id: 1}
    assert worker.popen.poll() is None
    assert add.submit(x=1).get(timeout=30) == 2
    figure(7, f"the kernel's own OOM killer in a cgroup of 400 MB: {attempts} of {attempts} starts, the same reason")
