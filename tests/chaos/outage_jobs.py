"""Jobs that wait for a file, and touch another when their body ends: what a test does in between is done to them."""

import time
from contextlib import nullcontext
from pathlib import Path

from sqlalchemy import text

from broker.context import Context
from broker.job import Params, job
from tests.chaos import history

JOBS = "tests.jobs,tests.chaos.jobs,tests.chaos.outage_jobs"


class Wait(Params):
    """Wait until the file `go` exists, then touch the file `ended`."""

    go: str
    ended: str
    seconds: float = 170
    report: bool = True  # progress, meanwhile
    write: bool = False  # through ctx.session(), at the end
    hold: bool = False  # wait within ctx.session(), which holds the job's row


@job("outage.wait", params=Wait, queue="cpu", backoff=0.05)
def wait(ctx: Context, params: Wait) -> str:
    deadline, done = time.monotonic() + params.seconds, 0
    with ctx.session() if params.hold else nullcontext():
        while not Path(params.go).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{params.go} never came")
            if params.report:
                ctx.progress(done := done + 1, 10**6, stage=f"step {done}")
            time.sleep(0.05)
    if params.write:
        with ctx.session() as session:
            session.execute(text("SELECT 1"))
    Path(params.ended).touch()
    return "gone"


class Fan(Params):
    """Wait in n children; the children end where told."""

    go: str
    ended: str
    n: int
    begin: str | None = None  # only when this file exists


@job("outage.fan", params=Fan, queue="cpu", backoff=0.05)
def fan(ctx: Context, params: Fan) -> int:
    if params.begin:
        _stand(Path(params.begin).parent, "stands", Path(params.begin).name)
    children = [{"go": params.go, "ended": f"{params.ended}.{each}", "report": False} for each in range(params.n)]
    return len([each for each in ctx.fan_out(wait, children) if each.result == "gone"])


class Gather(Params):
    """Sum what n children return; before the fan-out and after it, stand until a file exists."""

    n: int
    folder: str


@job("outage.gather", params=Gather, queue="cpu", max_attempts=20, backoff=0.05)
def gather(ctx: Context, params: Gather) -> dict[str, int]:
    _stand(Path(params.folder), f"begun.{ctx.attempt}", "begin")
    outcomes = ctx.fan_out(take_effect, [{"serial": each} for each in range(params.n)])
    _stand(Path(params.folder), "resumed", "end")
    with ctx.session() as session:
        session.connection().exec_driver_sql(history.EFFECT, {"serial": -1, "run": ctx.attempt})
        return ctx.finish({"children": len(outcomes), "sum": sum(each.result for each in outcomes)})


def _stand(folder: Path, here: str, go: str) -> None:
    (folder / here).touch()
    deadline = time.monotonic() + 170
    while not (folder / go).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{go} never came")
        time.sleep(0.02)


class TakeEffect(Params):
    """Write a row and return the number."""

    serial: int


@job("outage.take_effect", params=TakeEffect, queue="cpu", max_attempts=20, backoff=0.05)
def take_effect(ctx: Context, params: TakeEffect) -> int:
    time.sleep(0.05)
    with ctx.session() as session:
        session.connection().exec_driver_sql(history.EFFECT, {"serial": params.serial, "run": ctx.attempt})
        return ctx.finish(params.serial)
