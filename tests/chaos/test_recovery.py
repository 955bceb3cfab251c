"""A worker that is killed with jobs running: they run elsewhere a lease and at most two seconds later."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from broker.settings import Settings
from db.engine import autocommit
from db.settings import settings
from tests.chaos import history
from tests.chaos.jobs import work
from tests.chaos.storm import p99
from tests.processes import Process, start_relay, start_worker

LEASE_S = 3.0
JOBS = 2

_RUNNING = text("SELECT count(*) FROM job WHERE state = 'STARTED' AND worker LIKE :name || '@%'")
_STARTED = text("""
    SELECT extract(epoch FROM at)::float8 FROM job_event
    WHERE to_state = 'STARTED' AND worker LIKE :name || '@%' AND extract(epoch FROM at) > :after""")


def await_running(name: str, within_s: float = 30) -> None:
    """Until this worker runs all jobs."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with autocommit() as connection:
            if connection.execute(_RUNNING, {"name": name}).scalar() == JOBS:
                return
        time.sleep(0.05)
    raise AssertionError(f"worker {name} does not run all of the {JOBS} jobs within {within_s:g} s")


def worker(home: Path, name: str) -> Process:
    """One that is at work: Celery says "ready" before its pool's processes have started."""
    queues, lease = f"cpu,cpu.{name}", f"{LEASE_S:g}"
    started = start_worker(home, name=name, concurrency=JOBS, queues=queues, WORKER=name, GRISTMILL_LEASE_SECONDS=lease)
    first = [work.apply_async(kwargs={"serial": -1, "ms": 500}, queue=f"cpu.{name}") for _ in range(JOBS)]
    for each in first:
        each.get(timeout=60)
    return started


@pytest.mark.timeout(900)
def test_the_jobs_of_a_killed_worker_run_elsewhere_after_its_lease(
    quiet: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    rounds, dice = 20 if full else 3, random.Random(4)
    with psycopg.connect(settings().postgres_url().replace("+psycopg", "", 1), autocommit=True) as connection:
        history.create(connection)
    relay = start_relay(quiet, GRISTMILL_LEASE_SECONDS=f"{LEASE_S:g}")
    workers = {"round0": worker(quiet, "round0")}
    took: list[float] = []
    try:
        for number in range(JOBS):
            work.apply_async(kwargs={"serial": number, "ms": 3_600_000}, max_attempts=1000)
        await_running("round0")
        for number in range(rounds):
            holder, heir = f"round{number}", f"round{number + 1}"
            workers[heir] = worker(quiet, heir)

            time.sleep(dice.uniform(0, 1))  # wherever in the period of its renewals
            killed_at = time.time()
            os.killpg(workers[holder].popen.pid, signal.SIGKILL)
            await_running(heir)

            with autocommit() as connection:
                took += [at - killed_at for (at,) in connection.execute(_STARTED, {"name": heir, "after": killed_at})]
            workers.pop(holder).popen.wait()
    finally:
        for each in workers.values():
            each.kill()
            each.popen.wait()
        relay.stop()

    assert len(took) == rounds * JOBS
    worst = p99(took)
    assert worst is not None
    assert worst <= LEASE_S + 2, sorted(took)
    default = Settings.model_fields["lease_seconds"].default
    assert default <= 30
    figure(
        4,
        f"worker SIGKILL to running elsewhere: p99 {worst:.1f} s (lease {LEASE_S:g} s; by default {default:g} s), "
        f"{rounds} kills, {len(took)} jobs",
    )
