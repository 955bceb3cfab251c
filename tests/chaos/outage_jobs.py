"""Jobs that wait for a file, and touch another when their body ends: what a test does in between is done to them."""

import time
from contextlib import nullcontext
from pathlib import Path

from sqlalchemy import text

from broker.context import Context
from broker.job import Params, job

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


@job("outage.fan", params=Fan, queue="cpu", backoff=0.05)
def fan(ctx: Context, params: Fan) -> int:
    children = [{"go": params.go, "ended": f"{params.ended}.{each}", "report": False} for each in range(params.n)]
    return len([each for each in ctx.fan_out(wait, children) if each.result == "gone"])
