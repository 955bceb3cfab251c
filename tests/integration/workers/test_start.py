"""A worker of the command line: from its start to its first jobs, and to those after its process was killed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import jobs
from tests.processes import JOBS, ROOT, Process

WORKER = [sys.executable, "-m", "workers", "worker", "cpu", "--processes", "1"]
QUEUE = "cpu.start"


@pytest.fixture
def started(clean_db: Path) -> Iterator[Process]:
    process = Process([*WORKER, "--queue", QUEUE], clean_db, OMP_NUM_THREADS="3")
    yield process
    process.kill()


def processes(parent: psutil.Process) -> list[psutil.Process]:
    return [each for each in parent.children() if "semaphore_tracker" not in " ".join(each.cmdline())]


def answer(x: int) -> int:
    return jobs.add.apply_async(kwargs={"x": x}, queue=QUEUE).get(timeout=60)


def test_the_first_process_is_forked_and_its_successor_is_spawned(started: Process) -> None:
    started.wait_for("cpu.start worker: 1 process(es) x 3 thread(s)")
    started.wait_for("ready.")
    parent = psutil.Process(started.popen.pid)

    assert answer(1) == jobs.add.body(None, jobs.Add(x=1))
    (first,) = processes(parent)
    assert first.cmdline() == parent.cmdline()

    first.kill()
    assert answer(2) == jobs.add.body(None, jobs.Add(x=2))
    (second,) = processes(parent)
    assert "billiard.spawn" in " ".join(second.cmdline())

    started.popen.terminate()
    assert started.popen.wait(30) == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("GRISTMILL_BROKER_URL", "http://host", "gristmill: GRISTMILL_BROKER_URL=http://host: not a Redis URL: "),
        ("GRISTMILL_DATABASE_URL", "mysql://host/db", "gristmill: GRISTMILL_DATABASE_URL=mysql://host/db: not a Post"),
        ("GRISTMILL_JOBS", "nowhere.tasks", "gristmill: GRISTMILL_JOBS=nowhere.tasks: No module named 'nowhere'"),
    ],
)
def test_what_cannot_be_used_is_one_line(clean_db: Path, variable: str, value: str, said: str) -> None:
    process = Process(WORKER, clean_db, **({"GRISTMILL_JOBS": JOBS} | {variable: value}))

    assert process.popen.wait(60) == 2
    line = process.wait_for("gristmill: ")
    assert line.startswith(said)
    assert not any("Traceback" in each for each in process.lines)


def test_a_worker_says_that_postgres_is_away_before_it_takes_jobs(clean_db: Path) -> None:
    nobody = "postgresql://user:secret@127.0.0.1:1/nothing"
    process = Process([*WORKER, "--queue", QUEUE], clean_db, GRISTMILL_DATABASE_URL=nobody)
    try:
        line = process.wait_for("does not answer")
        assert "no job runs until it does" in line
        assert "secret" not in line
        process.wait_for("ready.")
    finally:
        process.stop()


def test_the_command_line_loads_nothing_of_the_worker_that_it_becomes() -> None:
    program = (
        "import sys, workers.cli\nworkers.cli.application()\nimport workers.process\n"
        "print({'celery', 'kombu', 'redis', 'sqlalchemy', 'psycopg', 'pydantic', 'structlog'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "set()", done.stderr
