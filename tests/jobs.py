"""Small jobs that the tests declare as a user would: imported by workers through GRISTMILL_JOBS."""

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import Field
from sqlalchemy import text

from broker.context import Context
from broker.errors import JobError
from broker.job import Params, job
from jobs.training.options import Acceleration


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


class Hoard(Params):
    """Take memory and never look at anything."""

    megabytes: int


@job("tests.hoard", params=Hoard, queue="cpu", max_attempts=2, backoff=0.05)
def hoard(ctx: Context, params: Hoard) -> None:
    held = os.urandom(1) * (params.megabytes << 20)
    ctx.progress(0, 1, stage="holding")
    while held:
        time.sleep(0.1)


class Climb(Params):
    """Take steps until the file `go` exists, each a line in the file `trace`; keep a checkpoint now and then, and when
    the worker stops. Or be deaf to that."""

    trace: str
    go: str
    every: int = 50
    deaf: bool = False


@job("tests.climb", params=Climb, queue="cpu", max_attempts=2, backoff=0.05)
def climb(ctx: Context, params: Climb) -> int:
    kept = ctx.load_checkpoint()
    step = int((kept / "step").read_text()) if kept else 0
    while not Path(params.go).exists():
        time.sleep(0.05)
        with open(params.trace, "a") as trace:
            trace.write(f"{step} {ctx.attempt}\n")
        step += 1
        if not params.deaf and (step % params.every == 0 or ctx.stopping):
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "step").write_text(str(step))
                ctx.save_checkpoint(Path(folder))
    return step


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


class Echo(Params):
    """Return the value."""

    value: Any = None


@job("tests.echo", params=Echo, queue="cpu")
def echo(ctx: Context, params: Echo) -> Any:
    return params.value


class TwoArguments(Exception):
    """Cannot be made again from its message, nor pickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__()
        self.both = f"{first} {second}"
        self.lock = threading.Lock()

    def __str__(self) -> str:
        return self.both


class Unspeakable(Exception):
    """Fails when asked for its message."""

    def __str__(self) -> str:
        raise RuntimeError("no message")


class Odd(Params):
    """End in an unusual way."""

    how: str


@job("tests.odd", params=Odd, queue="cpu", max_attempts=2, backoff=0.05)
def odd(ctx: Context, params: Odd) -> Any:
    match params.how:
        case "returns NaN":
            return {"loss": float("nan")}
        case "returns an object":
            return {"loss": object()}
        case "returns NUL":
            return "a\0b"
        case "returns half a surrogate pair":
            return "\ud800"
        case "returns a backslash":
            return r"a\u0000b"
        case "raises NUL":
            raise ValueError("a\0b\ud800")
        case "raises a huge message":
            raise ValueError("x" * 5_000_000)
        case "raises with two arguments":
            raise TwoArguments("one", "two")
        case "raises the database's URL":
            raise ValueError(f"cannot reach {os.environ['GRISTMILL_DATABASE_URL']}: try again")
        case "logs the database's URL":
            logging.getLogger("somebody's").warning("connecting to %s", os.environ["GRISTMILL_DATABASE_URL"])
            sys.stdout.write(f"connecting to {os.environ['GRISTMILL_DATABASE_URL']}\n")
            return None
        case "raises without a message":
            raise Unspeakable
        case "exits":
            sys.exit(0)
        case "notes":
            ctx.note(batch={"from": 8, "to": 4})
            return "noted"
        case "reports NUL":
            ctx.progress(1, 2, message="a\0b")
            return "reported"
    raise AssertionError(params.how)


class Inside(Params):
    """Report progress and open a session within an open session."""


@job("tests.inside", params=Inside, queue="cpu", max_attempts=1, time_limit=20)
def inside(ctx: Context, params: Inside) -> int:
    with ctx.session() as outer:
        ctx.progress(1, 2)
        with ctx.session() as inner:
            inner.execute(text("SELECT 1"))
        outer.execute(text("SELECT 1"))
    return 1


class Stages(Params):
    """Fan out several times; children fail where told."""

    failing: bool = False
    empty: bool = False
    nested: bool = False


@job("tests.stages", params=Stages, queue="cpu", max_attempts=1)
def stages(ctx: Context, params: Stages) -> Any:
    if params.empty:
        return [each.state for each in ctx.fan_out(add, [])]
    if params.nested:
        return [each.result for each in ctx.fan_out(stages, [{"empty": True}, {}])]
    if params.failing:
        outcomes = ctx.fan_out(fail, [{"permanent": True}, {"until_attempt": 1}])
        return [(each.state, each.result or (each.error or {})["type"]) for each in outcomes]
    first = ctx.fan_out(add, [{"x": 1}, {"x": 2}])
    second = ctx.fan_out(add, [{"x": each.result} for each in first])
    return [each.result for each in second]


class Train(Acceleration):
    """Record a training that never was, keep its report, and fail after it."""

    report: bool = True
    fail: bool = False


@job("tests.train", params=Train, queue="cpu", max_attempts=1)
def train(ctx: Context, params: Train) -> dict[str, Any]:
    from jobs.training.record import Record
    from jobs.training.report import keep

    record = Record(steps=10, spent={"step": 2.0}, examples=320, epochs=[{"epoch": 1, "loss": 0.5, "accuracy": 0.75}])
    result = {"report": keep(ctx, record, "a training of the tests", {"metric": "accuracy"})} if params.report else {}
    if params.fail:
        raise JobError("the data are gone")
    return result


class Together(Params):
    """Say with which others of the group this one ran, and do something odd on the way."""

    n: int
    group: str = "a"
    how: str = ""
    go: str = Field(default="", description="A file to wait for.")


@job("tests.together", params=Together, queue="cpu", batch=8, batch_by=("group",), max_attempts=2, backoff=0.05)
def together(ctx: Context, many: list[Together]) -> list[Any]:
    results: list[Any] = []
    for params in many:
        while params.go and not Path(params.go).exists():
            ctx.progress(params.n, 10**6)
            time.sleep(0.02)
        match params.how:
            case "bad":
                results.append(JobError(f"{params.n} is no good: leave it out"))
            case "unlucky" if ctx.attempt == 1:
                results.append(ValueError(f"{params.n} had no luck"))
            case "NaN":
                results.append(float("nan"))
            case "raises":
                raise JobError(f"{params.n} cannot be read")
            case "kills":
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                results.append(sorted(each.n for each in many))
    if any(params.how == "short" for params in many):
        results.pop()
    return results
