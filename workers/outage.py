"""Waits while Postgres is away, so that an outage costs a job time and nothing else."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import OperationalError

log = structlog.get_logger()
T = TypeVar("T")

OUTAGE_S = 600.0  # how long a job waits for Postgres to come back
LONGEST_PAUSE_S = 2.0


def outlast(step: Callable[[], T]) -> T:
    """What the step returns, once Postgres is there for it. It may be carried out although its answer is lost, and so
    twice: it must be one of conditional statements, or undone by its failure."""
    deadline, pause = time.monotonic() + OUTAGE_S, 0.2
    while True:
        try:
            return step()
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("postgres_away", reason=str(error).split("\n")[0], retry_in_s=round(pause, 1))
            time.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(pause * 2, LONGEST_PAUSE_S)
