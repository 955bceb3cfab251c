"""A seeded storm: short jobs under load, while pool processes, whole workers and relays are killed with SIGKILL.

Whoever is killed, one process and one relay are left at work: how soon a job runs elsewhere is not to measure how soon
an elsewhere is started.
The system under test is an interface, so that stock Celery goes through the same storm (benchmarks/chaos.py).
"""

import math
import random
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import Any, Protocol

import psutil
import psycopg

from tests.chaos import history
from tests.chaos.history import Verdict
from tests.processes import Process

LOOK_S = 0.1
SAY_S = 10.0
LATEST = 0.92  # of the jobs are through when the last kill is due, so that each one hits a busy system
RELAY_TOO = 0.15  # of the kills take a relay with them


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a storm. Its course (what is submitted, who is killed when) follows from the seed."""

    seed: int
    jobs: int  # at least: as many more as it takes to deal all kills under load
    kills: int
    workers: int = 2
    processes: int = 2  # of each worker
    relays: int = 2  # one takes over at once while the other is started again
    backlog: int = 100  # submitted and not done, as many as the submitter keeps in the queue
    limit_s: float = 900


@dataclass(frozen=True, slots=True)
class Blow:
    """A kill that is to come: once so many jobs are done, and a little later."""

    after: int
    late_s: float
    worker: bool  # the whole worker, or one of its pool's processes
    relay: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill that was dealt, to a living process."""

    what: str  # "worker", "child" or "relay"
    name: str  # of the worker
    at: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """A job that a killed worker held."""

    serial: int
    seconds: float  # from the kill to its next start


class System(Protocol):
    """What goes through the storm."""

    name: str

    def clear(self) -> None:
        """Begin with nothing."""

    def start_worker(self, name: str, processes: int) -> Process:
        """A worker, known by this name in `chaos_run.worker`; does not wait until it is ready."""

    def start_relay(self) -> Process | None:
        """What else is to be kept alive."""

    def submit(self, items: Sequence[dict[str, Any]]) -> int:
        """Submit these jobs; returns how many of them, from the first, were acknowledged."""

    def unfinished(self) -> int:
        """How many jobs the system says are still to be run or running."""

    def states(self) -> list[tuple[int, str]]:
        """The serial number and the state of each job that it knows."""

    def recoveries(self, kills: Sequence[Kill]) -> list[Recovery]:
        """The jobs that killed workers held, and that started again."""

    def explain(self, serial: int) -> str:
        """All that is known about one job."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a storm came to."""

    plan: Plan
    verdict: Verdict
    kills: list[Kill]
    recoveries: list[Recovery]
    fell: list[str]  # processes that ended although nobody killed them
    in_time: bool  # all was over before the limit: otherwise what counts as lost may only be late
    took_s: float
    explained: list[str] = field(default_factory=list)

    def killed(self, *what: str) -> int:
        """How many of these were killed."""
        return sum(each.what in what for each in self.kills)

    def __str__(self) -> str:
        counted = Counter(each.what for each in self.kills)
        said = ", ".join(f"{count} x {what}" for what, count in sorted(counted.items()))
        late = "" if self.in_time else ", and was not over in time"
        lines = [f"{self.plan}: killed {said} in {self.took_s:.0f} s{late}", str(self.verdict)]
        if took := [each.seconds for each in self.recoveries]:
            lines.append(
                f"{len(took)} jobs of killed workers ran elsewhere after "
                f"{statistics.median(took):.1f} s (median), {p99(took):.1f} s (p99), {max(took):.1f} s (last)"
            )
        lines += [f"ended by itself: {each}" for each in self.fell]
        return "\n".join([*lines, *self.explained])


def p99(seconds: Sequence[float]) -> float | None:
    """The nearest-rank 99th percentile."""
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1] if seconds else None


def script(plan: Plan) -> list[Blow]:
    """The kills of a storm, in order."""
    dice = random.Random(f"{plan.seed} kills")
    moments = sorted(dice.uniform(0.02, LATEST) for _ in range(plan.kills))
    return [
        Blow(int(moment * plan.jobs), dice.uniform(0, 0.5), dice.random() < 0.5, dice.random() < RELAY_TOO)
        for moment in moments
    ]


def batches(plan: Plan) -> Iterator[list[dict[str, Any]]]:
    """The submissions of a storm, without end: single jobs and batches of up to 50, of a few or some tens of ms."""
    dice = random.Random(f"{plan.seed} jobs")
    serial = count()
    while True:
        size = dice.choice((1, 1, 1, dice.randint(2, 50)))
        pauses = [dice.uniform(1, 8) if dice.random() < 0.8 else dice.uniform(20, 60) for _ in range(size)]
        yield [{"serial": next(serial), "ms": round(ms, 1)} for ms in pauses]


class Storm:
    """One storm over one system."""

    def __init__(self, system: System, plan: Plan, url: str, say: Callable[[str], None] = lambda _: None) -> None:
        self._system, self._plan, self._say = system, plan, say
        self._on = psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True)
        self._dice = random.Random(f"{plan.seed} victims")
        self._script = script(plan)
        self._attempted = 0
        self._acknowledged: list[int] = []
        self._workers: list[tuple[str, Process]] = []
        self._relays: list[Process] = []
        self._busy: set[int] = set()  # processes that have run a job: what still starts is no victim
        self._dying: set[int] = set()  # killed, and perhaps not gone yet
        self._seen = self._done = 0
        self._kills: list[Kill] = []
        self._fell: list[str] = []
        self._count = 0

    def run(self) -> Outcome:
        """From nothing to the verdict. Stops what it started."""
        began = time.monotonic()
        stop = threading.Event()
        submitter = threading.Thread(target=self._submit, args=(stop,), name="submitter")
        try:
            history.create(self._on)
            self._system.clear()
            self._keep_alive()
            submitter.start()
            in_time = self._until_done(submitter, began)
        finally:
            stop.set()
            if submitter.ident is not None:
                submitter.join()
            for _, process in self._workers:
                process.kill()
                process.popen.wait()
            for relay in self._relays:
                relay.stop()
        read = history.read(self._on, range(self._attempted), self._acknowledged, self._system.states())
        verdict = history.check(read)
        recoveries = self._system.recoveries([each for each in self._kills if each.what == "worker"])
        wrong = [sorted(each) for each in (verdict.lost, verdict.unsettled, verdict.duplicated, verdict.untrue)]
        slowest = sorted(recoveries, key=lambda each: each.seconds)[:-2:-1]
        explained = [
            *(f"wrong: {self._system.explain(serial)}" for serial in islice(dict.fromkeys(chain(*wrong)), 3)),
            *(f"slow, {each.seconds:.1f} s: {self._system.explain(each.serial)}" for each in slowest),
        ]
        self._on.close()
        took_s = time.monotonic() - began
        return Outcome(self._plan, verdict, self._kills, recoveries, self._fell, in_time, took_s, explained)

    def _until_done(self, submitter: threading.Thread, began: float) -> bool:
        said = idle_since = time.monotonic()
        while time.monotonic() - began < self._plan.limit_s:
            time.sleep(LOOK_S)
            before = self._seen
            self._look()
            self._keep_alive()
            self._strike()
            now = time.monotonic()
            if now - said > SAY_S:
                said = now
                self._say(
                    f"{self._system.name}, seed {self._plan.seed}: {now - began:4.0f} s, {self._done} of "
                    f"{self._plan.jobs} jobs, {len(self._kills)} kills, {self._system.unfinished()} unfinished"
                )
            if self._seen != before or submitter.is_alive():
                idle_since = now
            # A message that is just being taken is nowhere for a moment: nothing must move for longer than that.
            elif now - idle_since > 1 and self._system.unfinished() == 0:
                return True
        return False

    def _look(self) -> None:
        """How far the jobs are, and who runs them."""
        rows = self._on.execute(
            "SELECT pid, max(id) FROM chaos_run WHERE id > %s GROUP BY pid", (self._seen,)
        ).fetchall()
        for pid, last in rows:
            self._busy.add(pid)
            self._seen = max(self._seen, last)
        self._done = self._on.execute("SELECT coalesce(max(id), 0) FROM chaos_effect").fetchone()[0]

    def _keep_alive(self) -> None:
        """Start what is missing."""
        for name, process in list(self._workers):
            if process.popen.poll() is not None:
                self._workers.remove((name, process))
                if not any(each.what == "worker" and each.name == name for each in self._kills):
                    self._fell.append(f"{name}: {''.join(process.lines[-30:])}")
        while len(self._workers) < self._plan.workers:
            self._count += 1
            name = f"storm{self._count}"
            self._workers.append((name, self._system.start_worker(name, self._plan.processes)))
        for relay in list(self._relays):
            if relay.popen.poll() is not None:
                self._relays.remove(relay)
                if relay.popen.returncode != -signal.SIGKILL:
                    self._fell.append(f"relay: {''.join(relay.lines[-30:])}")
        while len(self._relays) < self._plan.relays and (started := self._system.start_relay()):
            self._relays.append(started)

    def _strike(self) -> None:
        """Deal the next blow of the script if its moment has come and somebody is left at work after it."""
        if not self._script or self._done < self._script[0].after:
            return
        blow = self._script[0]
        at_work = {
            (name, process): pool
            for name, process in self._workers
            if (pool := [each for each in _pool(process.popen.pid) if each.pid in self._busy - self._dying])
        }
        relays = [each for each in self._relays if any("relay_ready" in line for line in each.lines)]
        enough = len(at_work) > 1 if blow.worker else sum(map(len, at_work.values())) > 1
        if not enough or (blow.relay and self._relays and len(relays) < 2):
            return
        time.sleep(blow.late_s)  # off the beat of this loop
        (name, process), pool = self._dice.choice(list(at_work.items()))
        if blow.worker:
            dealt = self._kill("worker", name, process.popen.pid, process.kill)
        else:
            victim = self._dice.choice(pool)
            dealt = self._kill("child", name, victim.pid, victim.kill)
        if not dealt:  # it has just ended: another one, the next time round
            return
        if blow.worker:
            process.popen.wait()
            self._dying.update(each.pid for each in pool)
        else:
            self._dying.add(victim.pid)
        self._script.pop(0)
        if blow.relay and relays:
            relay = self._dice.choice(relays)
            self._kill("relay", "", relay.popen.pid, relay.kill)
            relay.popen.wait()
        self._keep_alive()

    def _kill(self, what: str, name: str, pid: int, kill: Callable[[], None]) -> bool:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return False
            at = time.time()
            kill()
        except psutil.NoSuchProcess:
            return False
        self._kills.append(Kill(what, name, at))
        return True

    def _submit(self, stop: threading.Event) -> None:
        for batch in batches(self._plan):
            while not stop.is_set() and self._attempted - self._done >= self._plan.backlog:
                stop.wait(LOOK_S / 2)
            if stop.is_set() or (self._attempted >= self._plan.jobs and not self._script):
                return
            self._attempted += len(batch)
            try:
                count = self._system.submit(batch)
            except Exception as error:  # not acknowledged: it may have been recorded or not
                self._say(f"submission failed: {error!r}")
                continue
            self._acknowledged += [each["serial"] for each in batch[:count]]


def _pool(pid: int) -> list[psutil.Process]:
    """The living children of a worker."""
    try:
        children = psutil.Process(pid).children()
        return [each for each in children if each.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []
