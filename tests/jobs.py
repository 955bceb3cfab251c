"""Small jobs that the tests declare as a user would: imported by workers through GRISTMILL_JOBS."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from broker.context import Context
from broker.errors import JobError
from broker.job import Params, job


class Nothing(Params):
    """Do nothing."""


@job("tests.nothing", params=Nothing, queue="cpu")
def nothing(ctx: Context, params: Nothing) -> None:
    return None


class Add(Params):
    """Add two numbers."""

    x: int
    y: int = 1


@job("tests.add", params=Add, queue="cpu")
def add(ctx: Context, params: Add) -> int:
    return params.x + params.y


class Total(Params):
    """Sum a list."""

    numbers: list[int]


@job("tests.total", params=Total, queue="cpu")
def total(ctx: Context, params: Total) -> int:
    return sum(params.numbers)


class Keyed(Params):
    """Return a name; one live job a name."""

    name: str = Field(min_length=1)


@job("tests.keyed", params=Keyed, queue="cpu", key="{name}")
def keyed(ctx: Context, params: Keyed) -> str:
    return params.name


class Fail(Params):
    """Fail: for good, or until the given attempt."""

    until_attempt: int | None = None
    permanent: bool = False


@job("tests.fail", params=Fail, queue="cpu", max_attempts=3, backoff=0.05)
def fail(ctx: Context, params: Fail) -> int:
    if params.until_attempt is not None and ctx.attempt >= params.until_attempt:
        return ctx.attempt
    if params.permanent:
        raise JobError("this can never work: do something else")
    raise ValueError(f"attempt {ctx.attempt} went wrong")


class Step(Params):
    """Report progress until the file `go` exists."""

    go: str
    seconds: float = 60


@job("tests.step", params=Step, queue="cpu", max_attempts=2, backoff=0.05)
def step(ctx: Context, params: Step) -> str:
    deadline = time.monotonic() + params.seconds
    done = 0
    while not Path(params.go).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{params.go} never came")
        done += 1
        ctx.progress(done, 10**6, stage=f"step {done}")
        time.sleep(0.05)
    return "gone"


class Stubborn(Params):
    """Never look at anything."""

    seconds: float = 60


@job("tests.stubborn", params=Stubborn, queue="cpu", max_attempts=2, backoff=0.05)
def stubborn(ctx: Context, params: Stubborn) -> None:
    time.sleep(params.seconds)


@job("tests.limited", params=Stubborn, queue="cpu", max_attempts=1, time_limit=1)
def limited(ctx: Context, params: Stubborn) -> None:
    time.sleep(params.seconds)


class Poison(Params):
    """Kill the process that runs this."""


@job("tests.poison", params=Poison, queue="cpu", max_attempts=2, backoff=0.05)
def poison(ctx: Context, params: Poison) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Fan(Params):
    """Add 1 to each of n numbers, in children, and sum the results."""

    n: int


@job("tests.fan", params=Fan, queue="cpu")
def fan(ctx: Context, params: Fan) -> dict[str, Any]:
    outcomes = ctx.fan_out(add, [{"x": each} for each in range(params.n)])
    return {"children": len(outcomes), "sum": sum(each.result for each in outcomes), "attempt": ctx.attempt}


class FanSteps(Params):
    """Wait for the file `go` in n children."""

    n: int
    go: str


@job("tests.fan_steps", params=FanSteps, queue="cpu")
def fan_steps(ctx: Context, params: FanSteps) -> int:
    return len(ctx.fan_out(step, [{"go": params.go} for _ in range(params.n)]))
