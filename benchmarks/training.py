"""Training with each acceleration option alone, all that helped together, and `auto`: time to the same metric as off.

    python -m benchmarks.training [--only recommender] [--rounds 1] [--seeds 1] [--minutes 15] [--option tokens]

The target of a task and seed is 99 % of the best validation metric of its first run with everything off; a run's time
ends with the validation that reaches it, and choosing, caching features, compiling, batches and validations count.
`auto` and progressive low rank train to the end, in `rounds` rounds; the others as many epochs as the minutes allow,
beside an all-off of as many. Everything off is run again after each two; ratios are the mean of its times just before
and after by the option's, and the median of the rounds. `whole_ratio` compares the whole trainings, which luck with an
epoch more or less leaves alone, and `cpu_ratio` their CPU time, which other work on the machine hardly touches.
What takes twice as long as everything off is stopped.
Last line: {"options": {task: {option: {"ratio", "whole_ratio", "cpu_ratio", "metric", "difference", …}}},
"auto_ratio": {task: …}, "auto_chose": {task: …}, "low_rank_points": {task: …}, "not_run": {task: {option: reason}}}.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from workers.hardware import cores
from workers.process import threads

os.environ.update(threads(cores()))  # as in the workers; before torch
os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # each run pays for its own compilation

import torch

from benchmarks import tasks
from benchmarks.options import variants
from broker.errors import GristmillError
from jobs.training import engine, factorised
from jobs.training.options import Acceleration
from jobs.training.task import Plan, Task

TASKS = ("recommender", "text")
CPU = torch.device("cpu")
REACH = 0.99  # of all-off's best metric
STOP, START_S = 2.0, 60.0  # times all-off's time, and what compiling may take before that counts
BETWEEN = 2  # runs of other options between two with everything off
EPOCHS = 2  # a training has at least
WHOLE = ("auto", "progressive low rank")  # train to the end
OFF = Acceleration(acceleration="off")


@dataclass
class Run:
    """One training: when it reached the target (None: it never did), and what it ended at."""

    seconds: float | None
    whole_s: float
    cpu_s: float  # of this process and those that it started
    metric: float
    chose: dict[str, Any]
    low_rank: int  # layers that are


Value = Callable[[Run], float | None]


@dataclass
class Bench:
    """The runs of one task with one seed."""

    name: str
    seed: int
    minutes: float
    target: float = 0.0
    epochs: int | None = None
    until: float = float("inf")
    runs: list[tuple[str, Run]] = field(default_factory=list)  # in the order in which they were made
    not_run: dict[str, str] = field(default_factory=dict)

    def measure(self, rounds: int, *, whole: bool, only: Collection[str] = ()) -> None:
        """Those that train to the end, or the others; or `only` these of them."""
        self.epochs = 1
        task, plan = self._make()
        options, self.not_run = variants(task, plan)
        options = {
            name: each for name, each in options.items() if (name in WHOLE) == whole and name in (only or options)
        }
        if not options:
            return
        begin = time.perf_counter()
        engine.fit(task, plan, OFF, CPU)  # allocators and kernels warm up
        epoch_s = time.perf_counter() - begin
        self.epochs = most = getattr(tasks, self.name)(self.seed)[1].epochs
        if not whole:
            self.until = time.perf_counter() + 60 * self.minutes
            count = 1.7 * len(options) + 3  # slow ones take longer, all-off is in between
            self.epochs = min(most, max(EPOCHS, int(60 * self.minutes / count / epoch_s)))
        print(f"{self.name}, seed {self.seed}: {task.name}, batches of {plan.batch}, {self.epochs} epochs of {most}",
              flush=True)  # fmt: skip
        self._one("off", OFF)
        for _ in range(rounds if whole else 1):
            self._round(options)
        if not (whole or only) and (together := self._together(options)) is not None:
            self._round({"together": together})

    def of(self, name: str) -> list[Run]:
        return [run for each, run in self.runs if each == name]

    def ratio(self, name: str, value: Value) -> float | None:
        """Median of all-off's value by this one's, all-off's being the mean of the runs just before and just after."""
        if name == "off":
            return 1.0
        found = []
        for place, (each, run) in enumerate(self.runs):
            before = next((run for other, run in reversed(self.runs[:place]) if other == "off"), None)
            after = next((run for other, run in self.runs[place:] if other == "off"), None)
            offs = [off for beside in (before, after) if beside and (off := value(beside))]
            if each == name and offs and (mine := value(run)):
                found.append(statistics.mean(offs) / mine)
        return statistics.median(found) if found else None

    def _round(self, options: dict[str, Acceleration]) -> None:
        """Everything off again after each few of the others."""
        since = 0
        for name, each in options.items():
            if self._has_time(name):
                since += self._one(name, each)
            if since == BETWEEN:
                since = 0
                self._one("off", OFF)
        if since:
            self._one("off", OFF)

    def _one(self, name: str, options: Acceleration) -> bool:
        """Whether it ended, and was not stopped."""
        off = self.runs[0][1] if self.runs else None
        limit = STOP * off.whole_s + START_S if off and name != "off" else 86_400.0
        task, plan = self._make()
        begin, cpu_s = time.perf_counter(), -sum(os.times()[:4])
        try:
            with stopping(limit):
                fitted = engine.fit(task, plan, options, CPU)
        except TooSlow:
            assert off is not None
            self.not_run[name] = f"stopped after {limit:.0f} s: everything off takes {off.whole_s:.0f} s"
            print(f"  {name:22} {self.not_run[name]}", flush=True)
            return False
        except (GristmillError, RuntimeError) as error:
            self.not_run[name] = f"failed: {str(error).strip().splitlines()[0]}"
            print(f"  {name:22} {self.not_run[name]}", flush=True)
            return False
        whole_s, cpu_s = time.perf_counter() - begin, cpu_s + sum(os.times()[:4])
        torch.compiler.reset()
        torch.set_num_threads(cores())  # whatever the run has set
        if not self.target:
            self.target = REACH * fitted.best[task.metric]
        outside_s = whole_s - fitted.record.seconds  # what the record counts as no stage came before the first epoch
        reached = (each["seconds"] + outside_s for each in fitted.history if each[task.metric] >= self.target)
        chose = {choice.option: choice.value for choice in fitted.record.choices}
        made = Run(
            next(reached, None), whole_s, cpu_s, fitted.best[task.metric], chose, len(factorised.ranks(fitted.model))
        )
        self.runs.append((name, made))
        said = "never" if made.seconds is None else f"{made.seconds:6.1f} s"
        stages = sorted(fitted.record.spent.items(), key=lambda each: -each[1])
        spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages)
        times = f"{said} to {self.target:.4f}, whole {whole_s:.1f} s, CPU {cpu_s:.1f} s"
        print(f"  {name:22} {times}, best {made.metric:.4f} ({spent})", flush=True)
        return True

    def _make(self) -> tuple[Task, Plan]:
        task, plan = getattr(tasks, self.name)(self.seed)
        return task, replace(plan, epochs=self.epochs or plan.epochs)

    def _together(self, options: dict[str, Acceleration]) -> Acceleration | None:
        """All options that made the first round's run faster by themselves and leave the model as it is."""
        gain = {name: self.ratio(name, lambda run: run.whole_s) or 0 for name in options}
        faster = sorted((name for name, each in gain.items() if each > 1 / 0.97), key=gain.__getitem__)
        values: dict[str, Any] = {}
        for name in faster:  # of two values for one option the faster one's stays
            values |= options[name].given()
        if values.get("tokens"):
            values.pop("micro_batch", None)
        print(f"  together: {', '.join(faster) or 'nothing was faster alone'}", flush=True)
        return Acceleration(acceleration="off", **values) if len(faster) > 1 else None

    def _has_time(self, name: str) -> bool:
        (run, *_) = self.of(name) or self.of("off")
        if time.perf_counter() + run.whole_s <= self.until:
            return True
        if not self.of(name):
            self.not_run.setdefault(name, "no time was left: give more --minutes")
        return False


class TooSlow(BaseException):  # a compiler makes its own error of any Exception, and goes on
    """A run was stopped."""


@contextmanager
def stopping(seconds: float) -> Iterator[None]:
    """Raises TooSlow within the block when its time is over."""

    def stop(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def told(benches: list[Bench]) -> dict[str, Any]:
    """One task's figures: medians over its seeds."""
    rows = {}
    for name in dict.fromkeys(name for bench in benches for name, _ in bench.runs):
        runs = [run for bench in benches for run in bench.of(name)]
        ran = [bench for bench in benches if bench.of(name)]
        differences = [bench.of(name)[0].metric - bench.of("off")[0].metric for bench in ran]
        rows[name] = {
            "ratio": _over(benches, name, lambda run: run.seconds),
            "whole_ratio": _over(benches, name, lambda run: run.whole_s),
            "cpu_ratio": _over(benches, name, lambda run: run.cpu_s),
            "metric": round(statistics.mean(run.metric for run in runs), 4),
            "difference": round(statistics.mean(differences), 4),
            "whole_s": round(statistics.median(run.whole_s for run in runs), 1),
            "runs": len(runs),
        }
        if "low rank" in name:
            rows[name]["layers"] = runs[0].low_rank
    return rows


def _over(benches: list[Bench], name: str, value: Value) -> float | None:
    found = [ratio for bench in benches if (ratio := bench.ratio(name, value)) is not None]
    return round(statistics.median(found), 3) if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(TASKS), help="one task")
    parser.add_argument("--rounds", type=int, default=1, help="of those that train to the end (default 1)")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 42 on (default 1)")
    parser.add_argument("--minutes", type=float, default=15, help="for the single options (default 15)")
    parser.add_argument("--option", action="append", default=[], help="this one alone; may be repeated")
    given = parser.parse_args()
    only = {"auto", *given.option} if given.option else set()
    names = [given.only] if given.only else list(TASKS)
    result: dict[str, Any] = {
        name: {} for name in ("options", "auto_ratio", "auto_chose", "low_rank_points", "not_run")
    }
    for name in names:
        minutes = given.minutes / len(names) / given.seeds
        whole, short = ([Bench(name, seed, minutes) for seed in range(42, 42 + given.seeds)] for _ in range(2))
        for bench in whole:
            bench.measure(given.rounds, whole=True, only=only)
        for bench in short:
            bench.measure(given.rounds, whole=False, only=only)
        rows = told(short) | told(whole)
        for option, row in rows.items():
            ratio = "never" if row["ratio"] is None else f"{row['ratio']:.2f}x"
            others = f"whole training {row['whole_ratio']:.2f}x, its CPU time {row['cpu_ratio']:.2f}x"
            print(f"{name:12} {option:22} {ratio:>7}, {others}   "
                  f"metric {row['metric']:.4f} ({row['difference']:+.4f})")  # fmt: skip
        result["options"][name], result["not_run"][name] = rows, whole[0].not_run | short[0].not_run
        result["auto_ratio"][name] = rows["auto"]["ratio"]
        result["auto_chose"][name] = whole[0].of("auto")[0].chose
        if low := rows.get("progressive low rank"):
            result["low_rank_points"][name] = round(100 * low["difference"], 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
