"""Jobs that the chaos suite runs: they leave traces that prove how often they ran."""

import os
import signal
import time

from broker.context import Context
from broker.job import Params, job
from db.engine import autocommit
from tests.chaos import history


class Work(Params):
    """Leave a trace of the run, work for so long, take effect."""

    serial: int
    ms: float = 0


@job("chaos.work", params=Work, queue="cpu", max_attempts=20)  # a storm may hit one job more than three times
def work(ctx: Context, params: Work) -> int:
    began = {"serial": params.serial, "job_id": ctx.job_id, "attempt": ctx.attempt, **history.here()}
    with autocommit() as connection:  # not fenced: a run is to be seen whoever holds the job
        run = connection.exec_driver_sql(history.BEGIN, began).scalar_one()
    time.sleep(params.ms / 1000)
    with ctx.session() as session:
        session.connection().exec_driver_sql(history.EFFECT, {"serial": params.serial, "run": run})
        return ctx.finish(params.serial)


class Finish(Params):
    """Take effect, and have the success committed with it; then go wrong in some way."""

    how: str = "well"


@job("chaos.finish", params=Finish, queue="cpu", max_attempts=2, backoff=0.05)
def finish(ctx: Context, params: Finish) -> str:
    if params.how == "outside":
        return ctx.finish("outside")
    with ctx.session() as session:
        session.connection().exec_driver_sql(history.EFFECT, {"serial": ctx.attempt, "run": 0})
        result = ctx.finish(f"attempt {ctx.attempt}")
        if params.how == "rolled back" and ctx.attempt == 1:
            raise ValueError("after finish(), before the commit")
    if params.how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if params.how == "raises":
        raise ValueError("after the commit")
    return result
