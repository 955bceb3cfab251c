"""A worker stays on the queue whose model it has loaded, and holds up no other for longer than its budget."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from sqlalchemy import text

from broker.app import app
from db.engine import autocommit
from tests import jobs
from tests.processes import start_relay, start_worker

MODELS = ["cpu.red", "cpu.green", "cpu.blue", "cpu.grey"]


def order_of_starts() -> list[str]:
    """The queues in the order in which their jobs were started."""
    with autocommit() as connection:
        return list(connection.execute(text("SELECT queue FROM job ORDER BY started_at")).scalars())


def run_all(home: Path, ids: list[str], **env: str) -> list[str]:
    relay = start_relay(home)
    worker = start_worker(home, name="sticky", concurrency=1, queues=",".join(MODELS), **env)
    try:
        for each in ids:
            app.AsyncResult(each).get(timeout=120)
        return order_of_starts()
    finally:
        worker.stop()
        relay.stop()


def switches(order: list[str]) -> int:
    return sum(one != other for one, other in pairwise(order))


def test_four_interleaved_queues_are_worked_off_one_by_one(quiet: Path, figure: Callable[[int, str], None]) -> None:
    each = 25
    ids = [jobs.add.apply_async((n,), queue=queue).id for n in range(each) for queue in MODELS]

    order = run_all(quiet, ids)

    assert switches(order) <= 2 * len(MODELS)
    figure(20, f"switches of one worker over 4 interleaved queues of {each} jobs: {switches(order)} (3 is the least)")


def test_a_queue_that_waits_is_served_within_the_budget(quiet: Path, figure: Callable[[int, str], None]) -> None:
    budget = 10
    busy = [jobs.add.apply_async((n,), queue="cpu.red").id for n in range(100)]
    waiting = jobs.add.apply_async((1,), queue="cpu.blue")

    order = run_all(quiet, [*busy, waiting.id], GRISTMILL_AFFINITY_JOBS=str(budget))

    # One more: a worker takes its next message while it still runs the one before.
    ahead = order.index("cpu.blue")
    assert ahead <= budget + 1
    figure(20, f"jobs of a busy queue ahead of a waiting one, with a budget of {budget}: {ahead}")
