"""Training with each acceleration option alone, all that helped together, and `auto`: time to the same metric as off.

    python -m benchmarks.training [--only recommender] [--rounds 3] [--seeds 1] [--minutes 15]

The target of a task and seed is 99 % of the best validation metric of its first run with everything off; a run's time
ends with the validation that reaches it, and choosing, caching features, compiling, batches and validations count.
A round runs everything off beside the others; ratios are all-off's time by the option's, paired within a round, and
the median of the rounds; `whole_ratio` compares the whole trainings, which luck with an epoch more or less leaves
alone. The first round runs all, later ones what was not slow, for as long as the minutes last.
What takes twice as long as everything off is stopped. Trainings are shortened to what the minutes allow.
Last line: {"options": {task: {option: {"ratio", "whole_ratio", "metric", "difference", …}}}, "auto_ratio": {task: …},
"auto_chose": {task: …}, "low_rank_points": {task: …}, "not_run": {task: {option: reason}}}.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from workers.hardware import cores
from workers.process import threads

os.environ.update(threads(cores()))  # as in the workers; before torch
os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # each run pays for its own compilation

import torch

from benchmarks import tasks
from broker.errors import GristmillError
from jobs.training import engine
from jobs.training.optimizer import has_eight_bit
from jobs.training.options import Acceleration
from jobs.training.task import Plan, Task

TASKS = ("recommender", "text")
CPU = torch.device("cpu")
REACH = 0.99  # of all-off's best metric
SLOW = 1.5  # of all-off's time: one round is enough
STOP, START_S = 2.0, 60.0  # times all-off's time, and what compiling may take before that counts
RUNS = 20  # that a task's minutes should hold, with its slow options and a second round of the others
EPOCHS = 4  # a training has at least
FIRST = ("auto", "progressive low rank")  # what the last line names


@dataclass
class Run:
    """One training: when it reached the target (None: it never did), and what it ended at."""

    seconds: float | None
    whole_s: float
    metric: float
    chose: dict[str, Any]


@dataclass
class Bench:
    """The runs of one task with one seed."""

    name: str
    seed: int
    minutes: float
    target: float = 0.0
    epochs: int | None = None
    until: float = 0.0
    runs: list[dict[str, Run]] = field(default_factory=list)  # a round each
    not_run: dict[str, str] = field(default_factory=dict)

    def measure(self, rounds: int) -> None:
        self.until = time.perf_counter() + 60 * self.minutes
        self.epochs = 1
        task, plan = self._make()
        options, self.not_run = variants(task, plan)
        begin = time.perf_counter()
        engine.fit(task, plan, Acceleration(acceleration="off"), CPU)  # allocators and kernels warm up
        epoch_s = time.perf_counter() - begin
        whole = getattr(tasks, self.name)(self.seed)[1].epochs
        self.epochs = min(whole, max(EPOCHS, int(60 * self.minutes / RUNS / epoch_s)))
        print(f"{self.name}, seed {self.seed}: {task.name}, batches of {plan.batch}, {self.epochs} epochs of {whole}, "
              f"so that {self.minutes:g} minutes hold the options", flush=True)  # fmt: skip
        self._round({"off": Acceleration(acceleration="off"), **options})
        if (together := self._together(options)) is not None:
            options["together"] = together
            self._one("together", together)
        for number in range(1, rounds):
            if not self._has_time("off", "auto"):
                break
            off = {"off": Acceleration(acceleration="off")}
            chosen = {name: each for name, each in options.items() if self._is_fast(name)}
            # everything off comes first and last in turns: a machine that slows down slows both
            self._round({**off, **chosen} if number % 2 == 0 else {"auto": chosen.pop("auto"), **off, **chosen})

    def ratio(self, name: str, of: Callable[[Run], float | None] = lambda run: run.seconds) -> float | None:
        pairs = [(of(each["off"]), of(each[name])) for each in self.runs if name in each and "off" in each]
        found = [off / mine for off, mine in pairs if off and mine]
        return statistics.median(found) if found else None

    def _round(self, options: dict[str, Acceleration]) -> None:
        self.runs.append({})
        for name, each in options.items():
            if name in ("off", "auto") or self._has_time(name):
                self._one(name, each)

    def _one(self, name: str, options: Acceleration) -> None:
        off = self.runs[0].get("off")
        limit = STOP * off.whole_s + START_S if off else 3600.0
        task, plan = self._make()
        begin = time.perf_counter()
        try:
            with stopping(limit):
                fitted = engine.fit(task, plan, options, CPU)
        except TooSlow:
            assert off is not None
            self.not_run[name] = f"stopped after {limit:.0f} s: everything off takes {off.whole_s:.0f} s"
            print(f"  {name:22} {self.not_run[name]}", flush=True)
            return
        except (GristmillError, RuntimeError) as error:
            self.not_run[name] = f"failed: {str(error).strip().splitlines()[0]}"
            print(f"  {name:22} {self.not_run[name]}", flush=True)
            return
        whole_s = time.perf_counter() - begin
        torch.compiler.reset()
        torch.set_num_threads(cores())  # whatever the run has set
        if not self.target:
            self.target = REACH * fitted.best[task.metric]
        outside_s = whole_s - fitted.record.seconds  # what the record counts as no stage came before the first epoch
        reached = (each["seconds"] + outside_s for each in fitted.history if each[task.metric] >= self.target)
        chose = {choice.option: choice.value for choice in fitted.record.choices}
        made = Run(next(reached, None), whole_s, fitted.best[task.metric], chose)
        self.runs[-1][name] = made
        said = "never" if made.seconds is None else f"{made.seconds:6.1f} s"
        stages = sorted(fitted.record.spent.items(), key=lambda each: -each[1])
        spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages)
        print(
            f"  {name:22} {said} to {self.target:.4f}, best {made.metric:.4f}; whole {whole_s:.1f} s ({spent})",
            flush=True,
        )

    def _make(self) -> tuple[Task, Plan]:
        task, plan = getattr(tasks, self.name)(self.seed)
        return task, replace(plan, epochs=self.epochs or plan.epochs)

    def _together(self, options: dict[str, Acceleration]) -> Acceleration | None:
        """All options that made the first round's run faster by themselves and leave the model as it is."""
        gain = {name: self.ratio(name, lambda run: run.whole_s) or 0 for name in options if name not in FIRST}
        faster = sorted((name for name, each in gain.items() if each > 1 / 0.97), key=gain.__getitem__)
        values: dict[str, Any] = {}
        for name in faster:  # of two values for one option the faster one's stays
            values |= options[name].given()
        if values.get("tokens"):
            values.pop("micro_batch", None)
        print(f"  together: {', '.join(faster) or 'nothing was faster alone'}", flush=True)
        return Acceleration(acceleration="off", **values) if len(faster) > 1 and self._has_time() else None

    def _is_fast(self, name: str) -> bool:
        return name == "auto" or (
            name in self.runs[0] and self.runs[0][name].whole_s <= SLOW * self.runs[0]["off"].whole_s
        )

    def _has_time(self, *names: str) -> bool:
        first = self.runs[0]
        need = sum(first[name].whole_s if name in first else first["off"].whole_s for name in names or ("off",))
        if time.perf_counter() + need <= self.until:
            return True
        for name in names:
            if name not in first:
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


def variants(task: Task, plan: Plan) -> tuple[dict[str, Acceleration], dict[str, str]]:
    """Each option alone, and why the others are not run here."""
    lengths = task.epoch(1).lengths
    tokens = max(int(lengths.max()), int(lengths.mean() * plan.batch / 4))
    alone: dict[str, dict[str, Any]] = {
        "progressive low rank": {"low_rank": "progressive"},
        "tokens": {"tokens": tokens},
        "cache_frozen": {"cache_frozen": True},
        "fused": {"optimizer": "fused"},
        "micro_batch": {"micro_batch": max(1, plan.batch // 4)},
        "loader": {"loader": 1},
        "buckets": {"buckets": True},
        "recompute": {"recompute": True},
        "processes": {"processes": 2},
        "8bit": {"optimizer": "8bit"},
        "compile": {"compile": "default"},
        "bf16": {"precision": "bf16"},
    }
    not_run = {
        "fp16": "needs a CUDA device",
        "on_device": "the device is the CPU: the data is in its memory",
        "pinned memory": "there is no GPU to copy to",
        "stabiliser": "changes the gradient: python -m benchmarks.stabiliser",
    }
    if not has_eight_bit():
        not_run["8bit"] = "bitsandbytes is not installed"
    if not (task.has_frozen and task.fixed):
        not_run["cache_frozen"] = "this task has no frozen layers"
    if not task.blocks():
        not_run["recompute"] = "this task names no blocks"
    chosen = {name: Acceleration(acceleration="off", **each) for name, each in alone.items() if name not in not_run}
    return {"auto": Acceleration(), **chosen}, not_run


def told(benches: list[Bench]) -> dict[str, Any]:
    """One task's figures: medians over its seeds."""
    names = dict.fromkeys(name for bench in benches for each in bench.runs for name in each)
    rows = {}
    for name in names:
        ratios = [ratio for bench in benches if (ratio := bench.ratio(name)) is not None]
        runs = [each[name] for bench in benches for each in bench.runs if name in each]
        off = [each["off"].metric for bench in benches for each in bench.runs if name in each and "off" in each]
        metric = statistics.mean(run.metric for run in runs)
        whole = [ratio for bench in benches if (ratio := bench.ratio(name, lambda run: run.whole_s)) is not None]
        rows[name] = {
            "ratio": round(statistics.median(ratios), 3) if ratios else None,
            "whole_ratio": round(statistics.median(whole), 3) if whole else None,
            "metric": round(metric, 4),
            "difference": round(metric - statistics.mean(off), 4) if off else None,
            "whole_s": round(statistics.median(run.whole_s for run in runs), 1),
            "runs": len(runs),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(TASKS), help="one task")
    parser.add_argument("--rounds", type=int, default=3, help="at most (default 3)")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 42 on (default 1)")
    parser.add_argument("--minutes", type=float, default=15, help="about how long in all (default 15)")
    given = parser.parse_args()
    names = [given.only] if given.only else list(TASKS)
    result: dict[str, Any] = {
        name: {} for name in ("options", "auto_ratio", "auto_chose", "low_rank_points", "not_run")
    }
    for name in names:
        minutes = given.minutes / len(names) / given.seeds
        benches = [Bench(name, seed, minutes) for seed in range(42, 42 + given.seeds)]
        for bench in benches:
            bench.measure(given.rounds)
        rows = told(benches)
        for option, row in rows.items():
            ratio = "never" if row["ratio"] is None else f"{row['ratio']:.2f}x"
            whole = f"{row['whole_ratio'] or 0:.2f}x"
            print(f"{name:12} {option:22} {ratio:>7}, whole training {whole}   "
                  f"metric {row['metric']:.4f} ({row['difference']:+.4f})")  # fmt: skip
        result["options"][name], result["not_run"][name] = rows, benches[0].not_run
        result["auto_ratio"][name] = rows["auto"]["ratio"]
        result["auto_chose"][name] = benches[0].runs[0]["auto"].chose
        if low := rows.get("progressive low rank"):
            result["low_rank_points"][name] = round(100 * low["difference"], 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
