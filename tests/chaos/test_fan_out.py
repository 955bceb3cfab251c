"""Promise 13: a fan-out whose parent, relay and workers are killed on the way ends once, every child counted once."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from db.settings import settings
from tests.chaos import history
from tests.chaos.ledger import all_ids, starts, states
from tests.chaos.outage_jobs import JOBS, gather
from tests.chaos.servers import until
from tests.processes import Process, start_relay, start_worker
from tests.rows import row

SEED = 20261122
ENV = {"GRISTMILL_LEASE_SECONDS": "3", "GRISTMILL_JOBS": JOBS}


@pytest.fixture
def effects(quiet: Path) -> Iterator[psycopg.Connection]:
    """The append-only table that the children write into."""
    with psycopg.connect(settings().postgres_url().replace("+psycopg", "", 1), autocommit=True) as connection:
        history.create(connection)
        yield connection
        connection.execute("DROP TABLE chaos_run, chaos_effect")


class Crew:
    """Two workers and a relay, any of which is killed and replaced."""

    def __init__(self, home: Path) -> None:
        self._home, self.kills = home, Counter[str]()
        self._pool = ThreadPoolExecutor()  # the others work on while one is started
        self._running = {name: self._pool.submit(self._start, name) for name in ("one", "two", "relay")}

    def kill(self, name: str) -> None:
        """SIGKILL, with all its processes; another takes its place."""
        self.kills["relay" if name == "relay" else "worker"] += 1
        self._running[name].result().kill()
        self._running[name] = self._pool.submit(self._start, name)

    def stop(self) -> None:
        """Kill all of them."""
        for process in self._running.values():
            process.result().kill()
        self._pool.shutdown()

    def _start(self, name: str) -> Process:
        return start_relay(self._home, **ENV) if name == "relay" else start_worker(self._home, name=name, **ENV)


@pytest.mark.timeout(900)
def test_a_fan_out_ends_once_although_its_parent_its_relay_and_its_workers_are_killed(
    quiet: Path, effects: psycopg.Connection, tmp_path: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    chance = random.Random(SEED)
    n, rounds = (1000, 6) if full else (200, 1)
    crew = Crew(quiet)
    try:
        began = time.monotonic()
        parent = gather.submit(n=n, folder=str(tmp_path))
        until((tmp_path / "begun.1").exists, within_s=120)
        crew.kill(name_of_worker(parent.id))
        crew.kill("relay")
        (tmp_path / "begin").touch()
        until((tmp_path / "begun.2").exists, within_s=120)
        time.sleep(chance.uniform(0, 0.3))
        crew.kill(name_of_worker(parent.id))  # before, within or after the transaction that records the children
        for number in range(rounds):
            until(lambda number=number: states().get("SUCCESS", 0) > n * (number + 1) / (rounds + 2), within_s=120)
            for name in chance.sample(["one", "two", "relay"], 2):
                crew.kill(name)
        until((tmp_path / "resumed").exists, within_s=300)
        crew.kill(name_of_worker(parent.id))
        crew.kill("relay")
        (tmp_path / "end").touch()
        result = parent.get(timeout=120)
        took = time.monotonic() - began
    finally:
        crew.stop()

    found = Counter(each[0] for each in effects.execute("SELECT serial FROM chaos_effect"))
    assert result == {"children": n, "sum": n * (n - 1) // 2}
    assert states() == {"SUCCESS": n + 1}
    assert found == Counter(range(-1, n))  # each child's effect and the parent's, once
    again = sum(count > 1 for job_id, count in starts(all_ids()).items() if job_id != parent.id)
    figure(13, f"fan-out of {n} children, {crew.kills['worker']} workers (its parent's thrice) and "
               f"{crew.kills['relay']} relays killed (seed {SEED}): the parent ended once, every child counted once, "
               f"{len(found)} effects once each, {again} children began again; {took:.0f} s")  # fmt: skip


def name_of_worker(job_id: str) -> str:
    """Which worker has this job, or had it last."""
    return (row(job_id).worker or "").partition("@")[0]
