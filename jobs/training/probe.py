"""Timing a few steps of a training with these or those options, and leaving its model as it was."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from jobs.training import order
from jobs.training.accelerator import accelerator
from jobs.training.memory import Batcher
from jobs.training.options import Acceleration
from jobs.training.stepper import Stepper
from jobs.training.task import Batch, Examples, Plan, Task

Array = np.ndarray[Any, Any]
_BATCHES = 3  # that are taken as a sample of the epoch
_MEASURE_S = 0.05  # a measurement is no shorter: clocks and caches need some time


@dataclass(frozen=True)
class Subset:
    """Some of the examples."""

    examples: Examples
    rows: Array

    @property
    def lengths(self) -> Array:
        return self.examples.lengths[self.rows]

    @property
    def nbytes(self) -> int:
        return self.examples.nbytes * len(self.rows) // max(len(self.examples.lengths), 1)

    def batch(self, rows: Array) -> Batch:
        return self.examples.batch(self.rows[rows])

    def to(self, device: torch.device) -> Subset:
        return Subset(self.examples.to(device), self.rows)


class Probe:
    """Steps over a sample of the first epoch. A context manager: at its end the weights are what they were."""

    def __init__(self, task: Task, plan: Plan, options: Acceleration, device: torch.device, sizes: Batcher) -> None:
        self._task, self._plan, self._options, self._device, self._sizes = task, plan, options, device, sizes
        examples = task.epoch(1)
        self.lengths = examples.lengths
        chosen = _typical(order.batches(self.lengths, plan.batch, np.random.default_rng((plan.seed, 1))), self.lengths)
        self.sample: Examples = Subset(examples, np.concatenate(chosen)) if chosen else Subset(examples, np.arange(0))
        ends = np.cumsum([len(rows) for rows in chosen])
        self.batches = [np.arange(end - len(rows), end) for rows, end in zip(chosen, ends, strict=True)]
        self._before = {name: value.detach().clone() for name, value in task.model.state_dict().items()}
        self._open = ExitStack()
        self._key: Any = None
        self._steppers: dict[str, Stepper] = {}
        self._warm: list[Stepper] = []
        self._once_s = 0.0
        self._turn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._close()
        self._task.model.zero_grad(set_to_none=True)
        self._task.model.load_state_dict(self._before)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return math.ceil(len(self.lengths) / self._plan.batch) * self._plan.epochs

    def compare(
        self, options: Sequence[dict[str, Any]], samples: Sequence[Examples] | None = None, rounds: int = 3
    ) -> list[float]:
        """Median seconds a step of each."""
        return [statistics.median(column) for column in zip(*self.rounds(options, samples, rounds), strict=True)]

    def rounds(
        self, options: Sequence[dict[str, Any]], samples: Sequence[Examples] | None = None, rounds: int = 3
    ) -> list[list[float]]:
        """Seconds a step of each, by round; in turns, so that whatever else runs here slows all of them."""
        samples = samples or [self.sample] * len(options)
        for each, sample in zip(options, samples, strict=True):
            stepper = self._stepper(each)
            if stepper not in self._warm:  # the first step makes the optimizer's state, and is no measure
                self._once_s = self._time(each, sample, 1)
                self._warm.append(stepper)
        count = min(10, max(1, math.ceil(_MEASURE_S / self._once_s)))
        return [[self._time(each, sample, count) for each, sample in zip(options, samples, strict=True)]
                for _ in range(rounds)]  # fmt: skip

    def prepare_s(self, options: dict[str, Any]) -> float:
        """Seconds that it takes to prepare a step's batches."""
        stepper = self._stepper(options)
        begin = time.perf_counter()
        for rows in self.batches:
            stepper.prepare(self.sample, rows)
        return (time.perf_counter() - begin) / len(self.batches)

    def _time(self, options: dict[str, Any], sample: Examples, count: int) -> float:
        stepper = self._stepper(options)
        begin = time.perf_counter()
        for _ in range(count):
            rows = self.batches[self._turn % len(self.batches)]
            stepper.step(sample, stepper.prepare(sample, rows), self._turn, 0.0)  # at a rate of 0
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._turn += 1  # the options that are compared meet the same batches
        return (time.perf_counter() - begin) / count

    def _stepper(self, options: dict[str, Any]) -> Stepper:
        key = (options["precision"], options["compile"])  # Accelerate knows one of each at a time
        if key != self._key:
            self._close()
            self._key = key
            chosen = self._options.model_copy(update=options)
            self._machine = self._open.enter_context(accelerator(chosen, self._device))
        name = repr(sorted(options.items(), key=str))
        if name not in self._steppers:
            chosen = self._options.model_copy(update=options)
            self._steppers[name] = Stepper(
                self._task, self._plan, chosen, self._device, self._machine, self._sizes
            )  # fmt: skip
        return self._steppers[name]

    def _close(self) -> None:
        self._steppers.clear()
        self._warm.clear()
        self._open.close()
        self._key = None


def _typical(batches: list[Array], lengths: Array) -> list[Array]:
    """The batches in the middle, by what they take when they are padded: a few at random would be of any size."""
    sizes = [lengths[rows].max() * len(rows) for rows in batches]
    ranked = [batches[number] for number in np.argsort(sizes, kind="stable")]
    begin = max(0, (len(ranked) - _BATCHES) // 2)
    return ranked[begin : begin + _BATCHES]
