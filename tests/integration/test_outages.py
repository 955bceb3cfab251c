"""What a caller notices of a restart of Postgres or of Redis being away: servers of its own, stopped and started."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import broker.embedded
import db.embedded
from db.place import gone, server_process

ROOT = Path(__file__).parents[2]

WAITING = """
from tests.jobs import add
from db import ledger
from db.engine import autocommit
from uuid import UUID
result = add.apply_async((1,))
waiting = result.get
print("submitted", result.id, flush=True)
from db import listen
for _ in listen.until_final(UUID(result.id), 60, look_every_s=0.1):
    print("waits", flush=True)
print("final", result.get(), flush=True)
second = add.apply_async((2,))
print("again", second.state, flush=True)
"""

WITHOUT_REDIS = """
from tests.jobs import add
from db.engine import autocommit
from sqlalchemy import text
import broker.embedded, time
from broker import relay
from broker.publish import queued_ids
from broker.settings import settings
from db.settings import settings as place
home = place().home
first = add.submit(x=1)
broker.embedded.stop(home)
began = time.monotonic()
many = add.submit_many([{"x": n} for n in range(10)])
took = time.monotonic() - began
assert took < 2, took
with autocommit() as connection:
    assert connection.execute(text("SELECT count(*) FROM job WHERE sent_at IS NULL")).scalar() == 10
assert relay.send_due() == 0
broker.embedded.start(home)
assert relay.tick().sent == 10
print("took", round(took, 1), len(queued_ids("cpu")), flush=True)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    try:
        db.embedded.start(tmp_path)
        broker.embedded.start(tmp_path)
        run("from db.migrate import upgrade; upgrade()", tmp_path).communicate(timeout=60)
        yield tmp_path
    finally:
        broker.embedded.stop(tmp_path)
        db.embedded.stop(tmp_path)


def run(program: str, home: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "GRISTMILL_HOME": str(home), "GRISTMILL_JOBS": "tests.jobs", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE
    )


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line
    raise AssertionError(f"{word!r} did not come, and the process ended with {process.wait()}")


def postgres(home: Path) -> psutil.Process:
    found = server_process(home / "postgres/postmaster.pid", "postgres", home / "postgres")
    assert found is not None
    return found


FINISH = """
from db import ledger
from db.engine import autocommit
from uuid import UUID
with autocommit() as connection:
    claimed = ledger.claim(connection, UUID("{}"), "w", 60)
    ledger.succeed(connection, claimed.id, claimed.attempt, 2)
"""


def test_who_waits_for_a_job_goes_on_waiting_over_a_restart_of_postgres(home: Path) -> None:
    process = run(WAITING, home)
    try:
        job_id = read_until(process, "submitted").split()[1]
        read_until(process, "waits")

        server = postgres(home)
        server.send_signal(signal.SIGINT)  # a fast shutdown: it disconnects everybody
        assert gone(server, 20)
        db.embedded.start(home)
        assert run(FINISH.format(job_id), home).wait(60) == 0

        assert read_until(process, "final") == "final 2\n"
        assert read_until(process, "again") == "again PENDING\n"
    finally:
        process.kill()
        process.wait()


def test_the_first_statement_after_a_restart_of_postgres_does_not_fail(home: Path) -> None:
    program = "from tests.jobs import add; add.submit(x=1); print('one', flush=True); input(); add.submit(x=2)"
    environment = {**os.environ, "GRISTMILL_HOME": str(home), "GRISTMILL_JOBS": "tests.jobs", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        read_until(process, "one")
        server = postgres(home)
        server.send_signal(signal.SIGINT)
        assert gone(server, 20)
        db.embedded.start(home)

        process.communicate("\n", timeout=60)

        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_jobs_submitted_while_redis_is_away_are_recorded_and_sent_when_it_is_back(home: Path) -> None:
    process = run(WITHOUT_REDIS, home)
    output, _ = process.communicate(timeout=90)

    assert process.returncode == 0
    assert output.splitlines()[-1].split()[-1] == "11"
