"""Promise 5: sentinel fails over to a Redis that holds nothing, and every queued job still runs, once."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.ledger import starts, submit_to_the_relay, wait_for_all
from tests.chaos.servers import Watched, client, until
from tests.jobs import nothing, step
from tests.processes import Process, start_relay, start_worker


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("demoted", [False, True], ids=["the master is killed", "the master is demoted"])
def test_jobs_that_wait_in_redis_run_once_although_sentinel_fails_over_to_an_empty_server(
    demoted: bool, quiet: Path, watched: Watched, tmp_path: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    if demoted and not full:
        pytest.skip("the sentinel demotes a master ten seconds later: run with --full")
    env = {"GRISTMILL_LEASE_SECONDS": "3", "GRISTMILL_BROKER_URL": watched.url}
    go = tmp_path / "go"
    crew: list[Process] = []
    try:
        crew += [start_worker(quiet, concurrency=1, **env), start_relay(quiet, **env)]
        ids = submit_to_the_relay([(step.name, {"go": str(go)})])
        until(lambda: starts(ids) == {ids[0]: 1})
        ids += submit_to_the_relay([(nothing.name, {})] * 100)
        with client(watched.replica) as replica:
            until(lambda: replica.llen("cpu\x06\x163") == 100)
            replica.flushall()
        lost_at = time.monotonic()
        watched.fail_over(demote=demoted)
        promoted_at = time.monotonic()
        go.touch()
        wait_for_all(ids, within_s=60)
        took = time.monotonic() - lost_at

        assert set(starts(ids).values()) == {1}
        assert all(process.popen.poll() is None for process in crew)
    finally:
        for process in crew:
            process.kill()
    how = "demoted" if demoted else "killed"
    figure(5, f"master {how}, sentinel fails over to an empty one after {promoted_at - lost_at:.1f} s, 100 jobs "
              f"queued: all ran once, the last after {took:.1f} s")  # fmt: skip
