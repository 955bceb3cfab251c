"""The recommender's training with a line of trace a step, and work on devices with little memory."""

import os
import resource
from collections.abc import Callable
from typing import Any

from broker.context import Context
from broker.job import Params, find, job
from broker.params import parse
from jobs.recommend.tasks import Train


class TracedTrain(Train):
    """Train, and write which attempt in which process made which step of which epoch."""

    trace: str


@job("chaos.train", params=TracedTrain, queue="cpu", max_attempts=50, backoff=0.05)
def train(ctx: Context, params: TracedTrain) -> dict[str, Any]:
    from jobs.recommend import train as training
    from jobs.recommend.fit import fit

    file = os.open(params.trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # unbuffered: what was written outlives a kill

    def traced(*arguments: Any, **names: Any) -> Any:
        split, recipe, device, on_epoch, on_step, resume = arguments

        def step(epoch: int, number: int, total: int) -> None:
            os.write(file, f"{ctx.attempt} {os.getpid()} {epoch}\n".encode())
            on_step(epoch, number, total)

        return fit(split, recipe, device, on_epoch, step, resume, **names)

    return _with(training, "fit", traced, lambda: training.train(ctx, params))


def _with(module: Any, name: str, value: Any, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        return run()
    finally:
        setattr(module, name, before)


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
