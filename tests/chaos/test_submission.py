"""Promises 9 and 10: one live job a key, however many submit it at once; what is committed runs once."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from db.engine import engine
from tests.chaos.ledger import all_ids, starts, states, wait_for_all
from tests.chaos.servers import until
from tests.jobs import nothing
from tests.processes import JOBS, ROOT, start_relay, start_worker

SEED = 20261122

# Fifty processes, each connected and waiting for the same end of a pipe.
SAME_KEY = """
import os, sys
import broker.publish
from db.engine import autocommit
from tests.jobs import keyed

gate, start = os.pipe()
ready, here = os.pipe()
children = []
for _ in range(int(sys.argv[1])):
    if not (child := os.fork()):
        os.close(start)
        with autocommit():
            os.write(here, b".")
        os.read(gate, 1)
        os.write(1, f"{keyed.submit(name=sys.argv[2]).id}\\n".encode())
        os._exit(0)
    children.append(child)
for _ in children:
    os.read(ready, 1)
os.close(start)
sys.exit(max(os.waitpid(each, 0)[1] for each in children))
"""

# Two jobs a transaction, again and again until killed. What is known to be committed is written down.
KILLED = """
import os, random, signal, sys, time
import broker.publish
from broker.submit import within
from db.engine import session
from tests.jobs import nothing

chance = random.Random(int(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    done, here = os.pipe()
    if not (child := os.fork()):
        while True:
            os.write(here, b".")
            with session() as transaction, within(transaction):
                ids = [nothing.submit().id for _ in range(2)]
            os.write(1, "".join(f"{each}\\n" for each in ids).encode())
    for _ in range(chance.randint(1, 5)):
        os.read(done, 1)
    time.sleep(chance.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(done)
    os.close(here)
"""

DIES = """
import os, sys
import broker.submit
from db.engine import session
from tests.jobs import nothing

def die(*_):
    os._exit(7)

broker.submit.publish = die
with session() as transaction:
    os.write(1, nothing.apply_async(session=transaction).id.encode())
    transaction.flush()
    if sys.argv[1] == "before the commit":
        die()
"""


def run(program: str, home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GRISTMILL_HOME": str(home), "GRISTMILL_JOBS": JOBS, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, timeout=800,
    )  # fmt: skip


@pytest.fixture(scope="module")
def crew(services: Path) -> Iterator[Path]:
    """A worker and a relay."""
    started = [start_worker(services), start_relay(services)]
    yield services
    for process in started:
        process.kill()


@pytest.mark.timeout(900)
def test_fifty_processes_that_submit_the_same_key_at_once_get_one_job(
    quiet: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    rounds = 20 if full else 2
    for number in range(rounds):
        done = run(SAME_KEY, quiet, 50, f"round {number}")

        told = done.stdout.split()
        assert done.returncode == 0
        assert len(told) == 50
        assert len(set(told)) == 1
        assert states() == {"PENDING": number + 1}
    figure(9, f"50 processes submit the same key at once: 1 job, all 50 get its id ({rounds} rounds)")


def test_a_submission_in_a_transaction_that_is_rolled_back_never_runs(quiet: Path, crew: Path) -> None:
    with Session(engine()) as transaction:
        undone = nothing.apply_async(session=transaction)
        transaction.rollback()

    nothing.submit().get(timeout=30)  # what was sent before it is past
    assert states() == {"SUCCESS": 1}
    assert starts([undone.id]) == {undone.id: 0}


def test_a_process_that_dies_before_the_commit_leaves_no_job(quiet: Path, crew: Path) -> None:
    died = run(DIES, quiet, "before the commit")

    assert died.returncode == 7
    nothing.submit().get(timeout=30)
    assert states() == {"SUCCESS": 1}
    assert starts([died.stdout]) == {died.stdout: 0}


def test_a_process_that_dies_between_commit_and_message_leaves_a_job_that_runs_once(
    quiet: Path, crew: Path, figure: Callable[[int, str], None]
) -> None:
    died = run(DIES, quiet, "after it")
    died_at = time.monotonic()

    assert died.returncode == 7
    wait_for_all([died.stdout], within_s=30)
    took = time.monotonic() - died_at
    assert starts([died.stdout]) == {died.stdout: 1}
    figure(10, f"a process dies between commit and message: its job ran once, {took:.1f} s later")


@pytest.mark.timeout(900)
def test_what_processes_committed_before_they_were_killed_runs_once_and_nothing_else_does(
    quiet: Path, crew: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    kills = 150 if full else 20

    done = run(KILLED, quiet, SEED, kills)
    committed = done.stdout.split()
    assert done.returncode == 0
    assert committed
    until(lambda: set(states()) == {"SUCCESS"}, within_s=120)

    everything = all_ids()
    assert set(committed) <= set(everything)
    assert len(everything) % 2 == 0  # each transaction holds two jobs
    assert set(starts(everything).values()) == {1}
    figure(10, f"{kills} submitters killed at random (seed {SEED}): {len(committed)} jobs known to be committed, "
               f"{len(everything)} recorded, each ran once")  # fmt: skip
