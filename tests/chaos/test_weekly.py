"""The weekly loop, its worker or its relay killed at each step: one promotion, with all lists there; the old ones serve
until then."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from db.engine import autocommit
from jobs.recommend import cache
from jobs.recommend.tasks import import_data, pretrain_all, refresh, train
from tests.chaos.servers import until
from tests.integration.recommend.running import run
from tests.processes import Process, start_relay, start_worker

USERS, TOP = 400, 10
ENV = {"GRISTMILL_LEASE_SECONDS": "3", "OMP_NUM_THREADS": "1"}
STEPS = ("recommend.train", "recommend.pretrain_batch", "recommend.pretrain_all")


class Crew:
    """Two workers for everything and a relay; whoever is killed is replaced while the others go on."""

    def __init__(self, home: Path) -> None:
        self._home, self._pool = home, ThreadPoolExecutor()
        self._running: dict[str, Future[Process]] = {
            name: self._pool.submit(self._start, name) for name in ("one", "two", "relay")
        }

    def kill(self, name: str) -> None:
        self._running[name].result().kill()
        self._running[name] = self._pool.submit(self._start, name)

    def stop(self) -> None:
        for process in self._running.values():
            process.result().kill()
        self._pool.shutdown()

    def _start(self, name: str) -> Process:
        if name == "relay":
            return start_relay(self._home, **ENV)
        return start_worker(self._home, name=name, queues="gpu,cpu", concurrency=1, **ENV)


class Reader(threading.Thread):
    """A site: reads one user's list all the time, and looks whether every list of the version in use is there."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[int | None, int]] = []  # version that served; how many lists of the version in use
        self.ended = threading.Event()

    def run(self) -> None:
        query = text("""SELECT count(*) FROM recommendation_cache c
                        JOIN model m ON m.name = 'recommend' AND m.is_current AND m.version = c.model_version""")
        while not self.ended.wait(0.05):
            found = cache.read("u1", TOP, count=False)
            with autocommit() as connection:
                self.seen.append((found.model_version if found else None, connection.execute(query).scalar_one()))


@pytest.fixture
def site(quiet: Path, tmp_path: Path) -> Path:
    """Users who walk 60 items in circles, with a model in use and everyone's list."""
    drawn, lines = np.random.default_rng(0), ["user,item,timestamp"]
    for user in range(USERS):
        start, length = int(drawn.integers(0, 60)), int(drawn.integers(5, 30))
        lines += [f"u{user},i{(start + step) % 60},{step}" for step in range(length)]
    (tmp_path / "events.csv").write_text("\n".join(lines) + "\n")
    run(import_data, data=str(tmp_path / "events.csv"))
    run(train, data="database", preset="quick")
    run(pretrain_all, top_k=TOP)
    return quiet


def running(kind: str) -> str | None:
    """The worker that runs a job of this kind."""
    query = text("SELECT worker FROM job WHERE kind = :kind AND state = 'STARTED' LIMIT 1")
    with autocommit() as connection:
        found = connection.execute(query, {"kind": kind}).scalar()
    return str(found).partition("@")[0] if found else None


def caught(kind: str, root: str) -> str:
    """The worker that runs the first job of this kind; or any, if that took less time than a look."""
    workers = list[str]()
    until(lambda: workers.extend(filter(None, [running(kind)])) or workers or ended(kind, root), within_s=120)
    return workers[0] if workers else "one"


def ended(kind: str, root: str) -> bool:
    """A job of this kind, of this loop, is final."""
    query = text("""SELECT count(*) FROM job
                    WHERE kind = :kind AND finished_at IS NOT NULL AND (root_id = :root OR id = :root)""")
    with autocommit() as connection:
        return bool(connection.execute(query, {"kind": kind, "root": root}).scalar_one())


@pytest.mark.timeout(600)
def test_a_weekly_loop_that_is_killed_at_each_step_promotes_once_and_with_all_lists(
    site: Path, figure: Callable[[int, str], None]
) -> None:
    crew, reader, kills = Crew(site), Reader(), Counter[str]()
    reader.start()
    began = time.monotonic()
    try:
        options = {"epochs": 8, "patience": 8, "acceleration": "off"}
        job = refresh.submit(model="sasrec", preset="quick", training=options, top_k=TOP, chunk=50)
        for step in STEPS:
            crew.kill(caught(step, job.id))
            kills[step] += 1
            crew.kill("relay")
            kills["relay"] += 1
        until(lambda: ended("recommend.pretrain_all", job.id), within_s=120)
        crew.kill(caught("recommend.refresh", job.id))  # it writes its report, and then promotes
        kills["recommend.refresh"] += 1
        result = job.get(timeout=180)
        time_s = time.monotonic() - began
        until(lambda: reader.seen[-1][0] == 2, within_s=30)
    finally:
        reader.ended.set()
        crew.stop()

    versions = [version for version, _ in reader.seen]
    assert result["promoted"] == 2
    assert versions == sorted(versions, key=lambda version: version or 0)  # the first one serves, and then the second
    assert set(versions) == {1, 2}  # and nobody waits
    assert {lists for _, lists in reader.seen} == {USERS}
    with autocommit() as connection:
        found = connection.execute(text("SELECT version, is_current FROM model ORDER BY version")).all()
        tries = connection.execute(text("SELECT sum(attempt) FROM job WHERE parent_id IS NOT NULL")).scalar_one()
    assert [tuple(row) for row in found] == [(1, False), (2, True)]
    figure(22, f"a weekly loop, killed at {', '.join(kills)}: one promotion, {USERS} lists of the new version, the old "
               f"ones served in all {versions.count(1)} reads before; {tries} attempts, {time_s:.0f} s")  # fmt: skip
