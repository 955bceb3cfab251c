"""Jobs on a real worker: outcomes, attempts, progress, cancellation, and what Celery's users expect of results."""

import os
import signal
import time
from pathlib import Path

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError, TimeoutError
from sqlalchemy import select

from db.engine import session
from db.job import Job
from tests import jobs
from tests.rows import row, starts

pytestmark = pytest.mark.usefixtures("worker")


def test_a_result_is_waited_for_and_is_a_row() -> None:
    result = jobs.add.delay(2, y=3)

    assert result.get(timeout=30) == 5
    assert (result.state, result.info, result.successful()) == ("SUCCESS", 5, True)
    assert row(result.id).result == 5
    assert row(result.id).finished_at is not None


def test_waiting_gives_up_after_its_timeout(tmp_path: Path) -> None:
    result = jobs.step.submit(go=str(tmp_path / "go"))

    with pytest.raises(TimeoutError):
        result.get(timeout=0.2)
    (tmp_path / "go").touch()
    assert result.get(timeout=30) == "gone"


def test_a_failing_job_is_tried_again_and_then_keeps_its_error() -> None:
    result = jobs.fail.submit()

    with pytest.raises(ValueError, match="attempt 3 went wrong"):
        result.get(timeout=30)
    failed = row(result.id)
    assert failed.state == "FAILURE"
    assert starts(result.id) == 3
    assert failed.error is not None
    assert (failed.error["type"], failed.error["message"]) == ("ValueError", "attempt 3 went wrong")
    assert "raise ValueError" in failed.error["traceback"]


def test_a_later_attempt_may_succeed() -> None:
    assert jobs.fail.submit(until_attempt=2).get(timeout=30) == 2


def test_an_error_that_is_for_good_is_not_tried_again() -> None:
    result = jobs.fail.submit(permanent=True)

    with pytest.raises(Exception, match="this can never work: do something else"):
        result.get(timeout=30)
    assert starts(result.id) == 1


def test_a_job_that_kills_its_process_is_bounded_and_says_why() -> None:
    result = jobs.poison.submit()

    with pytest.raises(Exception, match=r"killed by signal 9 \(perhaps out of memory\)"):
        result.get(timeout=60)
    assert starts(result.id) == 2


def test_a_job_over_its_time_limit_is_killed() -> None:
    result = jobs.limited.submit(seconds=60)

    with pytest.raises(Exception, match="longer than its time limit of 1 s"):
        result.get(timeout=30)


def test_progress_is_the_info_of_a_running_job(tmp_path: Path) -> None:
    result = jobs.step.submit(go=str(tmp_path / "go"))
    while not (result.state == "STARTED" and result.info):
        pass

    assert result.info["total"] == 10**6
    assert result.info["stage"].startswith("step")
    (tmp_path / "go").touch()
    assert result.get(timeout=30) == "gone"


def test_a_running_job_is_cancelled_at_its_next_progress_call(tmp_path: Path) -> None:
    result = jobs.step.submit(go=str(tmp_path / "never"))
    while result.state != "STARTED":
        pass

    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)
    assert row(result.id).state == "REVOKED"
    assert starts(result.id) == 1


def test_a_job_that_never_looks_is_killed_after_the_grace_period() -> None:
    result = jobs.stubborn.submit()
    while result.state != "STARTED":
        pass

    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError):
        result.get(timeout=15)
    assert jobs.add.submit(x=1).get(timeout=30) == 2
    assert starts(result.id) == 1


def test_a_fan_out_counts_every_child_once() -> None:
    result = jobs.fan.submit(n=20)

    assert result.get(timeout=60) == {"children": 20, "sum": sum(range(1, 21)), "attempt": 2}
    assert row(result.id).spared == 1


def test_a_group_gives_its_results_in_order() -> None:
    assert group(jobs.add.s(each) for each in range(5)).delay().get(timeout=30) == [1, 2, 3, 4, 5]


def test_a_chain_passes_results_on() -> None:
    result = chain(jobs.add.s(1), jobs.add.s(10), jobs.add.s(100)).delay()

    assert result.get(timeout=30) == 112
    assert result.parent.get(timeout=5) == 12


def test_a_chord_runs_its_body_with_all_results() -> None:
    assert chord([jobs.add.s(1), jobs.add.s(2)])(jobs.total.s()).get(timeout=30) == 5


def test_a_chain_with_a_group_inside_is_a_chord() -> None:
    work = chain(jobs.add.s(1), group(jobs.add.s(10), jobs.add.s(20)), jobs.total.s(), jobs.add.s(1000))

    assert work.delay().get(timeout=30) == 12 + 22 + 1000


def test_a_failed_link_fails_the_rest_of_its_chain() -> None:
    result = chain(jobs.fail.si(permanent=True), jobs.add.s(1), jobs.add.s(1)).delay()

    with pytest.raises(Exception, match="this can never work"):
        result.get(timeout=30)
    assert result.state == "FAILURE"


def test_a_failed_part_fails_the_chords_body() -> None:
    result = chord([jobs.add.s(1), jobs.fail.s(permanent=True)])(jobs.total.s())

    with pytest.raises(ChordError, match="this can never work"):
        result.get(timeout=30, follow_parents=False)


def test_links_run_after_success_and_after_failure() -> None:
    linked, failed = jobs.keyed.si("linked"), jobs.keyed.si("after-error")
    jobs.add.apply_async((1,), link=linked).get(timeout=30)
    with pytest.raises(Exception, match="this can never work"):
        jobs.fail.apply_async(kwargs={"permanent": True}, link_error=failed).get(timeout=30)

    names: set[str] = set()
    deadline = time.monotonic() + 30
    while names != {"linked", "after-error"} and time.monotonic() < deadline:
        with session() as opened:
            done = opened.scalars(select(Job).where(Job.kind == "tests.keyed", Job.state == "SUCCESS"))
            names = {each.params["name"] for each in done}
    assert names == {"linked", "after-error"}


def test_a_lost_message_is_found_by_the_relay(tmp_path: Path) -> None:
    from broker.settings import make_client

    blockers = [jobs.step.submit(go=str(tmp_path / "go")) for _ in range(4)]
    waiting = jobs.add.submit(x=1)
    make_client().flushall()
    (tmp_path / "go").touch()

    assert waiting.get(timeout=60) == 2
    assert [each.get(timeout=60) for each in blockers] == ["gone"] * 4
    assert starts(waiting.id) == 1


def test_a_job_of_a_killed_worker_runs_elsewhere(clean_db: Path, tmp_path: Path) -> None:
    from tests.processes import start_worker

    other = start_worker(clean_db, name="other", concurrency=1, queues="cpu.other", GRISTMILL_LEASE_SECONDS="3")
    result = jobs.step.apply_async(kwargs={"go": str(tmp_path / "go")}, queue="cpu.other")
    while result.state != "STARTED":
        pass
    os.killpg(other.popen.pid, signal.SIGKILL)
    another = start_worker(clean_db, name="another", concurrency=1, queues="cpu.other")
    try:
        (tmp_path / "go").touch()
        assert result.get(timeout=60) == "gone"
        assert starts(result.id) == 2
    finally:
        another.stop()


def test_a_stopping_worker_gives_its_job_back_uncharged(clean_db: Path, tmp_path: Path) -> None:
    from tests.processes import start_worker

    first = start_worker(clean_db, name="first", concurrency=1, queues="cpu.first")
    result = jobs.stubborn.apply_async(kwargs={"seconds": 60}, queue="cpu.first")
    while result.state != "STARTED":
        pass
    first.popen.send_signal(signal.SIGQUIT)
    first.popen.wait(30)

    given_back = row(result.id)
    assert (given_back.state, given_back.attempt, given_back.spared) == ("PENDING", 1, 1)
