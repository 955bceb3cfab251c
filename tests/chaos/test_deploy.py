"""A rolling deploy under load: SIGTERM to every worker in turn loses nothing, charges nothing and wastes little."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from broker.app import app
from broker.publish import queued_ids
from db.engine import autocommit
from tests import jobs
from tests.chaos.servers import until
from tests.processes import start_relay, start_worker

GRACE_S = 2


def charged() -> list[tuple[str, int]]:
    """Jobs that were charged more than the one attempt that did their work."""
    with autocommit() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT kind, attempt - spared FROM job")) if row[1] != 1]


def handed_over_s(told: list[datetime]) -> list[float]:
    """Seconds from the SIGTERM to a worker to each job that it gave back running elsewhere."""
    with autocommit() as connection:
        rows = connection.execute(
            text("""
            SELECT back.at, min(again.at) FROM job_event AS back
            JOIN job_event AS again ON again.job_id = back.job_id AND again.id > back.id AND again.to_state = 'STARTED'
            WHERE back.from_state = 'STARTED' AND back.to_state = 'PENDING' GROUP BY back.id""")
        )
        return [(again - max(each for each in told if each <= back)).total_seconds() for back, again in rows]


def test_sigterm_to_every_worker_in_turn_loses_nothing_and_charges_nothing(
    quiet: Path, tmp_path: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    grace = {"GRISTMILL_STOP_GRACE_SECONDS": str(GRACE_S)}
    relay = start_relay(quiet)
    workers = [start_worker(quiet, name=f"old{n}", **grace) for n in range(2)]
    go, traces = tmp_path / "go", [tmp_path / f"trace{n}" for n in range(3)]
    climbs = [jobs.climb.submit(trace=str(trace), go=str(go)) for trace in traces[:2]]
    deaf = jobs.climb.submit(trace=str(traces[2]), go=str(go), deaf=True)  # given back at the end of the grace
    short = jobs.add.submit_many([{"x": n} for n in range(5000 if full else 500)])
    told: list[datetime] = []
    try:
        app.AsyncResult(short[0]).get(timeout=60)

        for number, old in enumerate(list(workers)):
            workers.append(start_worker(quiet, name=f"new{number}", queues=f"cpu,cpu.new{number}", **grace))
            jobs.add.apply_async((1,), queue=f"cpu.new{number}").get(timeout=60)  # its processes have started
            told.append(datetime.now(UTC))
            old.popen.terminate()
            assert old.popen.wait(GRACE_S + 20) == 0
            workers.remove(old)

        go.touch()
        for each in [*climbs, deaf, *map(app.AsyncResult, short)]:
            each.get(timeout=120)
    finally:
        for worker in workers:
            worker.stop()
        relay.stop()

    seconds = handed_over_s(told)
    assert charged() == []
    assert seconds, "nothing was handed over: the test shows nothing"
    assert max(seconds) <= GRACE_S + 2
    for trace in traces[:2]:
        steps = [int(line.split()[0]) for line in trace.read_text().splitlines()]
        assert all(after == before + 1 for before, after in pairwise(steps)), "a step was done twice"
    figure(8, f"{len(short)} jobs, {len(seconds)} handed over: 0 lost, 0 charged, at most {max(seconds):.1f} s")


def test_a_worker_that_is_stopped_keeps_no_message_from_the_others(quiet: Path, tmp_path: Path, full: bool) -> None:
    for _ in range(3 if full else 1):  # it is always in a call for the next message, which ends within a second
        stopping = start_worker(quiet, name="stopping", GRISTMILL_STOP_GRACE_SECONDS="2")
        try:
            running = jobs.climb.submit(trace=str(tmp_path / "trace"), go=str(tmp_path / "go"), deaf=True)
            until(lambda running=running: running.state == "STARTED")

            stopping.popen.terminate()
            stopping.wait_for("Warm shutdown")
            late = jobs.add.submit(x=1)
            stopping.wait_for("stop_grace_over")

            assert late.state == "SUCCESS" or UUID(late.id) in queued_ids("cpu")
        finally:
            stopping.kill()
