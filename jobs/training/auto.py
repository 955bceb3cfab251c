"""Choosing the acceleration options: a few steps of each candidate beside what is in force; what is faster is kept.

Only what leaves the mathematics of a step as it is, but for rounding, is a candidate; fewer bits are tried where the
device computes in them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from broker.errors import summary
from jobs.training import frozen, order
from jobs.training.memory import Batcher, OutOfMemory
from jobs.training.options import Acceleration
from jobs.training.probe import Probe
from jobs.training.record import Choice
from jobs.training.task import Plan, Task

OFF: dict[str, Any] = {
    "precision": "fp32", "micro_batch": None, "buckets": False, "tokens": None, "loader": 0, "optimizer": "adamw",
    "compile": "off", "on_device": False, "recompute": False, "cache_frozen": False, "processes": 1,
}  # fmt: skip

_BUDGET = 0.03  # of the steps that the training is expected to take
_MOSTLY_PADDING = 0.5  # of the tokens, from which a CPU need not measure that leaving them out is faster
_GAIN = 0.95  # a candidate that takes more of the time than this is not worth a change, or it is noise
_COMPILE_S = 90.0  # what compiling costs before the first fast step, at least
_SHARE = 0.25  # of the free memory may be taken by what is kept for speed


def choose(
    task: Task, plan: Plan, options: Acceleration, device: torch.device, sizes: Batcher
) -> tuple[Acceleration, list[Choice]]:
    """All options decided, and what was found out about those that the user left open. The model stays as it is."""
    decided = OFF | options.given()
    if options.acceleration == "off":
        return options.model_copy(update=decided), []
    with Probe(task, plan, options, device, sizes) as probe:
        chooser = _Chooser(task, plan, device, probe, decided)
        if probe.batches:
            try:
                chooser.choose(set(options.given()))
            except OutOfMemory as error:  # the candidates' optimizers are in memory beside one another
                chooser.choices.append(Choice("acceleration", "off", f"no memory to measure the rest: {error}"))
    return options.model_copy(update=chooser.now), chooser.choices


class _Chooser:
    def __init__(self, task: Task, plan: Plan, device: torch.device, probe: Probe, now: dict[str, Any]) -> None:
        self._task, self._plan, self._device, self._probe = task, plan, device, probe
        self.now = now
        self._step_s = 0.0  # of what is in force; 0: not measured yet
        self.choices: list[Choice] = []

    def choose(self, given: set[str]) -> None:
        """In the order of what each can be expected to bring, while the budget lasts."""
        deciders: dict[str, Callable[[], None]] = {
            "processes": self._processes, "tokens": self._tokens, "cache_frozen": self._cache_frozen,
            "precision": self._precision, "optimizer": self._optimizer, "micro_batch": self._micro_batch,
            "on_device": self._on_device, "loader": self._loader, "compile": self._compile,
            "recompute": self._recompute,
        }  # fmt: skip
        self._left = _BUDGET * self._probe.steps
        for option, decide in deciders.items():
            if option not in given:
                decide()

    @property
    def _expected_s(self) -> float:
        """Of the whole training's steps."""
        if not self._step_s:
            (self._step_s,) = self._probe.compare([self.now], rounds=1)
        return self._step_s * self._probe.steps

    def _processes(self) -> None:
        if self._device.type == "cuda" and torch.cuda.device_count() > 1:
            self._take("processes", torch.cuda.device_count(), "a process for each GPU that this worker sees")

    def _cache_frozen(self) -> None:
        """Always looked at, since it takes little more than a step to know."""
        if not (self._task.fixed and self._task.has_frozen):
            return
        probe, plain = self._probe, self._probe.sample
        times = len(probe.lengths) / len(plain.lengths)
        self._task.features(plain.batch(probe.batches[0]).to(self._device))  # its first call loads and allocates
        began = time.perf_counter()
        kept = frozen.cached(self._task, plain, self._device)
        once_s, need = (time.perf_counter() - began) * times, kept.flat.nbytes * times
        if need > _SHARE * psutil.virtual_memory().available:
            said = f"the features would take {need / 2**30:.1f} GB, too much of this machine's memory"
            return self._leave("cache_frozen", said)
        without, with_ = probe.compare([self.now, self.now], [plain, kept], rounds=1 if self._left < 6 else 3)
        ms = _ms({False: without, True: with_})
        saved_s = (without - with_) * probe.steps - once_s
        if saved_s <= 0:
            return self._leave("cache_frozen", f"computing the features takes {once_s:.0f} s and saves less", ms)
        probe.sample, self._step_s = kept, with_
        self._take("cache_frozen", True, f"saves {saved_s:.0f} s, the {once_s:.0f} s of computing them counted", ms)

    def _precision(self) -> None:
        if self._device.type == "cuda":
            self._try("precision", ["bf16" if torch.cuda.is_bf16_supported() else "fp16"], rounds=1)
        elif self._device.type == "cpu" and _computes_in_bf16():
            self._try("precision", ["bf16"], rounds=1)
        else:
            self._leave("precision", f"this {self._device.type} has no arithmetic of 16 bits: it would be slower")

    def _tokens(self) -> None:
        if self.now["micro_batch"] or self.now["buckets"]:
            return
        lengths, batches = self._probe.sample.lengths, self._probe.batches
        padded = sum(int(lengths[rows].max()) * len(rows) for rows in batches)
        share = order.padding(batches, lengths) / max(padded, 1)
        if share < 0.1:
            return self._leave("tokens", f"{share:.0%} of the tokens are padding: little to gain")
        # Small enough to be of like rows, large enough to keep the cores busy.
        longest, each = int(self._probe.lengths.max()), padded / len(batches)
        values = sorted({max(longest, int(each / parts)) for parts in (3, 6)}, reverse=True)
        if self._device.type != "cpu" or share < _MOSTLY_PADDING or self._can_afford(values, 3):
            return self._try("tokens", values)
        self._take("tokens", values[-1], f"{share:.0%} of the tokens are padding: too few steps to measure the rest")

    def _optimizer(self) -> None:
        self._try("optimizer", ["fused"])

    def _micro_batch(self) -> None:
        """Smaller parts stay in a CPU's cache; a GPU wants them as large as they fit."""
        if self._device.type == "cpu" and not self.now["tokens"] and self._plan.batch >= 32:
            self._try("micro_batch", [self._plan.batch // 2, self._plan.batch // 4])

    def _on_device(self) -> None:
        if self._device.type != "cuda":
            return self._leave("on_device", f"the device is {self._device.type}: the data is in its memory")
        free = torch.cuda.mem_get_info(self._device)[0]
        need = self._probe.sample.nbytes * len(self._probe.lengths) / len(self._probe.sample.lengths)
        if need > _SHARE * free:
            return self._leave("on_device", f"the data takes {need / 2**30:.1f} of the {free / 2**30:.1f} GB free")
        self._take("on_device", True, f"the data fits: {need / 2**30:.1f} of the {free / 2**30:.1f} GB free")

    def _loader(self) -> None:
        share = self._probe.prepare_s(self.now) * self._probe.steps / self._expected_s
        if share < 0.05:
            return self._leave("loader", f"preparing a batch takes {share:.1%} of a step")
        threads = 1 if self._device.type == "cpu" else 2
        self._take("loader", threads, f"preparing a batch takes {share:.0%} of a step: it goes on beside the steps")

    def _compile(self) -> None:
        if self._expected_s < 4 * _COMPILE_S:
            said = f"about {self._expected_s:.0f} s of training; compiling alone takes some {_COMPILE_S:.0f} s"
            return self._leave("compile", said)
        began = time.perf_counter()
        compiled = self.now | {"compile": "default"}
        try:
            (fast,) = self._probe.compare([compiled], rounds=2)
        except Exception as error:  # a compiler that is missing, an operation that it does not know: there are many
            return self._leave("compile", f"does not compile here: {summary(error)}")
        warm_s = time.perf_counter() - began
        ms = _ms({"off": self._step_s, "default": fast})
        saved_s = (self._step_s - fast) * self._probe.steps - warm_s
        if saved_s <= 0:
            return self._leave("compile", f"saves less than the {warm_s:.0f} s of compiling", ms)
        self._step_s = fast
        self._take("compile", "default", f"saves {saved_s:.0f} s, the {warm_s:.0f} s of compiling counted", ms)

    def _recompute(self) -> None:
        self._leave("recompute", "saves memory and costs time: ask for it when a batch does not fit")

    def _can_afford(self, values: list[Any], rounds: int) -> bool:
        return self._left >= _cost(values, rounds)

    def _try(self, option: str, values: list[Any], rounds: int = 3) -> None:
        """The fastest value, if it is faster than what is in force."""
        if not self._can_afford(values, rounds):
            return self._leave(option, f"not measured: it would take more than {_BUDGET:.0%} of all steps")
        self._left -= _cost(values, rounds)
        tried = [self.now[option], *values]
        made = self._probe.rounds([self.now | {option: value} for value in tried], rounds=rounds)
        seconds = [statistics.median(column) for column in zip(*made, strict=True)]
        ms = _ms(dict(zip(tried, seconds, strict=True)))
        # Faster in each round: a median of three is luck too often on a machine that others use as well.
        faster = [n for n in range(1, len(tried)) if all(times[n] <= _GAIN * times[0] for times in made)]
        if not faster:
            return self._leave(option, "nothing was faster in each round", ms)
        best = min(faster, key=seconds.__getitem__)
        self._step_s = seconds[best]
        self._take(option, tried[best], f"{seconds[0] / seconds[best]:.2f}x as fast", ms)

    def _take(self, option: str, value: Any, why: str, ms: dict[str, float] | None = None) -> None:
        self.now = self.now | {option: value}
        self.choices.append(Choice(option, value, why, ms or {}))

    def _leave(self, option: str, why: str, ms: dict[str, float] | None = None) -> None:
        self.choices.append(Choice(option, self.now[option], why, ms or {}))


def _cost(values: list[Any], rounds: int) -> int:
    """Steps that comparing these with what is in force takes, the first one of each included."""
    return rounds * (len(values) + 1) + len(values)


def _ms(seconds: dict[Any, float]) -> dict[str, float]:
    return {str(value): round(each * 1000, 3) for value, each in seconds.items()}


def _computes_in_bf16() -> bool:
    """Whether this CPU multiplies in bf16 (AVX512-BF16 or AMX); others emulate it, several times slower."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
