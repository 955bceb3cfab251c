"""Promise 5: Redis loses what it holds, and every queued job still runs, once. See test_sentinel.py for a failover."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.publish import queued_ids
from broker.settings import make_client
from tests.chaos.ledger import first_start, starts, wait_for_all
from tests.chaos.servers import restart_redis_without_its_data, until
from tests.jobs import nothing, step
from tests.processes import Process, start_relay, start_worker

LEASE = {"GRISTMILL_LEASE_SECONDS": "3"}


@pytest.fixture(scope="module")
def crew(services: Path) -> Iterator[list[Process]]:
    """Two workers and a relay, which live through every loss in this file."""
    started: list[Process] = []
    try:
        started += [start_worker(services, name=name, concurrency=1, **LEASE) for name in ("one", "two")]
        started.append(start_relay(services, **LEASE))
        yield started
    finally:
        for process in started:
            process.kill()


def flush(home: Path) -> None:
    with make_client() as client:
        client.flushall()


LOSSES = {"flushed": flush, "restarted without persistence": restart_redis_without_its_data}


@pytest.mark.parametrize("loss", LOSSES)
def test_jobs_that_wait_in_redis_run_once_although_it_loses_them(
    loss: str,
    quiet: Path,
    crew: list[Process],
    tmp_path: Path,
    full: bool,
    figure: Callable[[int, str], None],
) -> None:
    go = tmp_path / "go"
    busy = [step.submit(go=str(go)).id for _ in range(2)]
    wait_until_running(busy)
    queued = nothing.submit_many([{} for _ in range(500 if full else 200)])
    assert len(queued_ids("cpu")) == len(queued)

    LOSSES[loss](quiet)
    lost_at = time.time()
    assert not queued_ids("cpu")
    go.touch()
    wait_for_all([*busy, *queued], within_s=60)
    took = time.time() - lost_at

    assert set(starts([*busy, *queued]).values()) == {1}
    assert all(process.popen.poll() is None for process in crew)
    figure(5, f"Redis {loss}, {len(queued)} jobs queued: all ran once, the first after "
              f"{first_start(queued) - lost_at:.1f} s, the last after {took:.1f} s")  # fmt: skip


def wait_until_running(ids: list[str]) -> None:
    until(lambda: set(starts(ids).values()) == {1})
