"""A job far longer than its lease and than the visibility timeout is started once."""

from collections.abc import Callable
from pathlib import Path

from broker.settings import make_client
from tests import jobs
from tests.processes import start_relay, start_worker
from tests.rows import row, starts


def test_a_job_ten_times_longer_than_its_lease_and_the_visibility_timeout_starts_once(
    quiet: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    lease_s = 3 if full else 1
    lease = {"GRISTMILL_LEASE_SECONDS": str(lease_s)}
    relay = start_relay(quiet, **lease)
    # Two workers, so that whatever Redis hands out again is taken at once.
    workers = [
        start_worker(quiet, name=name, concurrency=1, app="tests.chaos.impatient", **lease) for name in ("one", "two")
    ]
    try:
        job = jobs.stubborn.submit(seconds=10 * lease_s)
        workers[0].popen.poll()
        job.get(timeout=10 * lease_s + 60)

        again = [line for worker in workers for line in worker.lines if "received" in line and job.id in line]
        assert len(again) > 1, "Redis never handed the message out again: the test shows nothing"
        assert starts(job.id) == 1
        assert row(job.id).state == "SUCCESS"
        with make_client() as client:
            assert client.hlen("unacked") <= 1
        figure(3, f"job of {10 * lease_s} s, lease {lease_s} s, visibility 1 s, delivered {len(again)} times: starts 1")
    finally:
        for worker in workers:
            worker.stop()
        relay.stop()
