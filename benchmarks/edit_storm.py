"""Pairs of photographs through the embedded editor and scorer, while the workers are killed: each is done exactly once.

Two workers of one process each, for all queues, are killed with SIGKILL, with all their processes, and replaced: one
kill while the benchmark is taken in, the others spread over edits and scores. peak_mb is the largest memory that a
single process had (a worker's parent, its pool's process with the model, or with the evaluation's own job), sampled
each quarter of a second; Postgres and Redis aside. Exactly once is counted in the rows; `failed` are pairs that the
scorer says it cannot measure, such as the sharpness of an even sky: they are edited once and have no score.
Last line: {"pairs": …, "edited_once": …, "scored_once": …, "failed": …, "kills": …, "peak_mb": …, "pairs_per_s": …}.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from benchmarks.services import services
from tests.processes import Process, start_relay

QUEUES = ("cpu,gpu.edit,gpu.score", "gpu.score,gpu.edit,cpu")
ENV = {"GRISTMILL_LEASE_SECONDS": "5", "GRISTMILL_JOBS": "benchmarks.jobs", "OMP_NUM_THREADS": "1"}
PHASES = {"intake": "batch >= 0", "edit": "edits > 0", "score": "scores > 0"}
SAMPLE_S = 0.25


class Crew:
    """The workers; any of them is killed and replaced."""

    def __init__(self, home: Path) -> None:
        self._home, self.kills = home, 0
        self.workers = [self._start(number) for number in range(len(QUEUES))]

    def _start(self, number: int) -> Process:
        options = ["-n", f"edit{number}@storm", "-Q", QUEUES[number], "-c", "1", "--without-gossip", "--without-mingle"]
        command = [sys.executable, "-m", "celery", "-q", "-A", "broker.app", "worker", *options, "-l", "ERROR"]
        return Process(command, self._home, **ENV)

    def kill(self, number: int) -> None:
        """SIGKILL to a worker and all its processes; another takes its place."""
        self.workers[number].kill()
        self.kills += 1
        self.workers[number] = self._start(number)

    def stop(self) -> None:
        """The end."""
        for worker in self.workers:
            worker.kill()


class Memory(threading.Thread):
    """The largest process, and the largest sum of all of them, in MB."""

    def __init__(self, crew: Crew) -> None:
        super().__init__(daemon=True)
        self._crew, self._ended = crew, threading.Event()
        self.peak_mb = self.together_mb = 0.0

    def run(self) -> None:
        """Until `end`."""
        while not self._ended.wait(SAMPLE_S):
            sizes = [size for worker in self._crew.workers for size in _sizes_mb(worker.popen.pid)]
            self.peak_mb = max(self.peak_mb, *sizes, 0.0)
            self.together_mb = max(self.together_mb, sum(sizes))

    def end(self) -> None:
        """Sample no more."""
        self._ended.set()
        self.join()


def _sizes_mb(pid: int) -> list[float]:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    sizes = []
    for each in family:
        try:
            sizes.append(each.memory_info().rss / 1e6)
        except psutil.NoSuchProcess:  # it was just killed
            continue
    return sizes


def storm(home: Path, pairs: int, kills: int, seed: int) -> dict[str, Any]:
    """One evaluation; says on stderr how it goes."""
    from db.state import FINAL
    from jobs.edit import sample
    from jobs.edit.tasks import evaluate
    from tests.rows import row

    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=home) as folder:
        began = time.monotonic()
        config = sample.write(Path(folder), max(1, pairs // 5), seed, size=128)
        asked = 5 * max(1, pairs // 5)
        say(f"{asked:,} pairs written in {time.monotonic() - began:.0f} s")
        relay, crew = start_relay(home, **ENV), Crew(home)
        memory = Memory(crew)
        memory.start()
        try:
            began = time.monotonic()
            job = evaluate.submit(config=str(config))
            for phase, share in blows(kills):
                if not wait_until(lambda phase=phase, share=share: through(phase) >= share * asked, job.id):
                    break
                number = chance.randrange(len(QUEUES))
                crew.kill(number)
                say(f"{time.monotonic() - began:.0f} s: killed worker {number} in {phase}, {through(phase):,} through")
            while row(job.id).state not in FINAL:
                time.sleep(0.5)
            took = time.monotonic() - began
        finally:
            memory.end()
            crew.stop()
            relay.stop()
    state = row(job.id)
    say(f"{state.state} in {took:.0f} s: {json.dumps(state.result or state.error)[:600]}")
    say(f"all workers' processes together: {memory.together_mb:.0f} MB; of the workers' time {spent()}")
    if failed := count("state = 'failed'"):
        say(f"{failed} failed, the first: {first_failure()}")
    once = {name: count(f"{name} = 1") for name in ("edits", "scores")}
    return {
        "pairs": asked, "edited_once": once["edits"], "scored_once": once["scores"],
        "failed": count("state = 'failed'"), "kills": crew.kills,
        "peak_mb": round(memory.peak_mb), "pairs_per_s": round(asked / took, 1),
    }  # fmt: skip


def blows(kills: int) -> list[tuple[str, float]]:
    """When: (phase, the share of the pairs that are through it). The first in the intake, then the stages in halves."""
    edits = kills // 2
    parts = [("edit", edits), ("score", kills - 1 - edits)]
    rest = [(phase, (n + 1) / (number + 1)) for phase, number in parts for n in range(number)]
    return [("intake", 0.5), *rest][:kills]


def through(phase: str) -> int:
    """How many pairs are through this phase."""
    return count(PHASES[phase])


def count(condition: str) -> int:
    from db.engine import autocommit

    with autocommit() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM edit_pair WHERE {condition}")).scalar_one())


def first_failure() -> str:
    from db.engine import autocommit

    failed = (
        "SELECT category, pair_id, instruction, error FROM edit_pair WHERE state = 'failed' ORDER BY position LIMIT 1"
    )
    with autocommit() as connection:
        return "; ".join(connection.execute(text(failed)).one())


def spent() -> str:
    """For how long jobs of each kind ran, and how often one was started."""
    from db.engine import autocommit

    kinds = text(
        "SELECT kind, count(*), sum(took_s) FROM job_event e JOIN job ON job.id = e.job_id "
        "WHERE from_state = 'STARTED' GROUP BY kind ORDER BY kind"
    )
    with autocommit() as connection:
        found = connection.execute(kinds).all()
    return ", ".join(f"{seconds:.0f} s in {number:,} runs of {kind}" for kind, number, seconds in found)


def wait_until(holds: Callable[[], bool], job_id: str) -> bool:
    """False when the job ended before."""
    from db.state import FINAL
    from tests.rows import row

    while not holds():
        if row(job_id).state in FINAL:
            return False
        time.sleep(0.1)
    return True


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with services() as home:
        print(json.dumps(storm(home, options.pairs, options.kills, options.seed)))


if __name__ == "__main__":
    main()
