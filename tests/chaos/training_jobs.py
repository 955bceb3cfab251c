"""Trainings with a line of trace a step, and work on devices with little memory."""

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker.context import Context
from broker.job import Params, find, job
from broker.params import parse
from jobs.classify.tasks import TrainStudent, TrainTeacher
from jobs.recommend.params import Train

SAVED = 0  # in the place of a step: what was made before is in a checkpoint


class TracedTrain(Train):
    """Train, and write which attempt in which process made which step, and when what was made is safe."""

    trace: str


class TracedTeacher(TrainTeacher):
    """The same for a teacher."""

    trace: str


class TracedStudent(TrainStudent):
    """The same for a student."""

    trace: str


@job("chaos.train", params=TracedTrain, queue="cpu", max_attempts=50, backoff=0.05)
def train(ctx: Context, params: TracedTrain) -> dict[str, Any]:
    from jobs.recommend import train as training

    return _traced(ctx, params.trace, lambda traced: training.train(traced, params))


@job("chaos.train_teacher", params=TracedTeacher, queue="cpu", max_attempts=50, backoff=0.05)
def train_teacher(ctx: Context, params: TracedTeacher) -> dict[str, Any]:
    from jobs.classify import train as training

    return _traced(ctx, params.trace, lambda traced: training.train_teacher(traced, params))


@job("chaos.train_student", params=TracedStudent, queue="cpu", max_attempts=50, backoff=0.05)
def train_student(ctx: Context, params: TracedStudent) -> dict[str, Any]:
    from jobs.classify import student as training

    return _traced(ctx, params.trace, lambda traced: training.train_student(traced, params))


def _traced(ctx: Context, trace: str, body: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    from jobs.training.stepper import Stepper

    file = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # unbuffered: what was written outlives a kill
    real = Stepper.step

    def step(self: Any, examples: Any, ready: Any, number: int, share: float) -> Any:
        os.write(file, f"{ctx.attempt} {os.getpid()} {number}\n".encode())
        return real(self, examples, ready, number, share)

    Stepper.step = step  # type: ignore[method-assign]
    try:
        return body(_Traced(ctx, file))
    finally:
        Stepper.step = real  # type: ignore[method-assign]


class _Traced:
    """The job's context, that says when a checkpoint is safe."""

    def __init__(self, ctx: Context, file: int) -> None:
        self._ctx, self._file = ctx, file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def save_checkpoint(self, folder: Path) -> None:
        self._ctx.save_checkpoint(folder)
        os.write(self._file, f"{self._ctx.attempt} {os.getpid()} {SAVED}\n".encode())


class Squeezed(Params):
    """Run another job's body on a pretended device of so many bytes."""

    kind: str
    params: dict[str, Any]
    limit_bytes: int


@job("chaos.squeezed", params=Squeezed, queue="cpu", max_attempts=1)
def squeezed(ctx: Context, params: Squeezed) -> dict[str, Any]:
    from tests.allocator import Allocator

    inner = find(params.kind)
    with Allocator(params.limit_bytes) as device:
        result = inner.body(ctx, parse(inner.name, inner.params_model, (), params.params))
    return {"result": result, "refused": device.refused, "peak": device.peak}


class Confined(Params):
    """Allocate a gigabyte an item, in a process that the kernel gives no more than so many of them."""

    items: int
    gigabytes: int


@job("chaos.confined", params=Confined, queue="cpu", max_attempts=1)
def confined(ctx: Context, params: Confined) -> dict[str, Any]:
    import torch

    from jobs.training.memory import batcher

    tried: list[int] = []

    def forward(part: range) -> int:
        tried.append(len(part))
        return len(torch.empty(len(part), 2**30, dtype=torch.uint8))  # none of it is ever touched

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (params.gigabytes * 2**30, before[1]))
    try:
        done = list(batcher(ctx, "gigabytes", torch.device("cpu")).run(forward, range(params.items), params.items))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return {"done": sum(done), "tried": tried}
