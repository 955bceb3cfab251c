"""The no-op job that drain and submit measure."""

from broker.context import Context
from broker.job import Params, job


class Noop(Params):
    """Do nothing."""


@job("benchmarks.noop", params=Noop, queue="cpu")
def noop(ctx: Context, params: Noop) -> None:
    return None
