"""The recommender's training, with a line of trace a step, and its jobs in a device with little memory."""

import os
from collections.abc import Callable
from typing import Any

from broker.context import Context
from broker.job import job
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
