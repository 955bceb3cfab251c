"""Waits while Postgres is away, so that an outage costs a job time and nothing else."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import OperationalError

from db.engine import autocommit
from db.ledger import Executor

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


def persist(statement: Callable[[Executor], T]) -> T:
    """Run a ledger statement, waiting out an outage of Postgres: a finished result is not thrown away.

    Each statement is conditional, so one that was carried out although its answer was lost does no harm.
    """

    def step() -> T:
        with autocommit() as connection:
            return statement(connection)

    return outlast(step)


def or_the_relay(go_on: Callable[[], None]) -> None:
    """If Postgres goes away after the outcome was stored, the relay does what follows it."""
    try:
        go_on()
    except OperationalError as error:
        log.warning("follow_up_left_to_relay", reason=str(error).split("\n")[0])
