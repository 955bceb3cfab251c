"""Promise 18: the metrics tell the truth under load, by the ledger itself in the same instant."""

import re
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, text

from broker.metrics import LedgerReader
from broker.publish import lengths
from broker.queues import PRIORITIES
from broker.series import families
from db.engine import autocommit, engine
from tests import jobs
from tests.chaos.servers import postgres_away
from tests.processes import Process, start_relay, start_worker

LEASE = {"GRISTMILL_LEASE_SECONDS": "3"}

Labels = tuple[str, ...]
Samples = dict[Labels, float]  # name and the labels' values, sorted by the labels' names

# The truth, counted from every row of the tables in the plainest way.
TRUTH = """
    SELECT 'gristmill_jobs_submitted_total', kind, NULL, NULL, count(*) FROM job GROUP BY 2
    UNION ALL SELECT 'gristmill_jobs_finished_total', kind, state, NULL, count(*) FROM job
        WHERE state IN ('SUCCESS', 'FAILURE', 'REVOKED') GROUP BY 2, 3
    UNION ALL SELECT 'gristmill_attempts_total', kind, NULL, NULL, sum(attempt) FROM job GROUP BY 2
    UNION ALL SELECT 'spared', kind, NULL, NULL, sum(spared) FROM job GROUP BY 2
    UNION ALL SELECT 'gristmill_retries_total', kind, NULL, NULL, count(*) FROM job_event e JOIN job ON job.id = job_id
        WHERE to_state = 'RETRY' GROUP BY 2
    UNION ALL SELECT 'gristmill_leases_lost_total', kind, NULL, NULL, count(*) FROM job_event e
        JOIN job ON job.id = job_id WHERE from_state = 'STARTED' AND e.error LIKE 'the lease of%ran out%' GROUP BY 2
    UNION ALL SELECT 'gristmill_job_run_seconds_count', kind, queue, NULL, count(*) FROM job_event e
        JOIN job ON job.id = job_id WHERE from_state = 'STARTED' GROUP BY 2, 3
    UNION ALL SELECT 'started', kind, NULL, NULL, count(*) FROM job_event e JOIN job ON job.id = job_id
        WHERE to_state = 'STARTED' GROUP BY 2
    UNION ALL SELECT 'due', priority::text, queue, NULL, count(*) FROM job
        WHERE state IN ('PENDING', 'RETRY') AND run_at <= now() GROUP BY 2, 3
    UNION ALL SELECT 'gristmill_queue_jobs', priority::text, queue,
            CASE WHEN state = 'STARTED' THEN 'running' WHEN run_at > '9000-01-01' THEN 'suspended' ELSE 'later' END,
            count(*) FROM job
        WHERE state = 'STARTED' OR state IN ('PENDING', 'RETRY') AND run_at > now() GROUP BY 2, 3, 4
    UNION ALL SELECT 'gristmill_queue_oldest_age_seconds', priority::text, queue, NULL,
            extract(epoch FROM now() - min(run_at)) FROM job
        WHERE state IN ('PENDING', 'RETRY') AND run_at <= now() GROUP BY 2, 3
    UNION ALL SELECT 'gristmill_overdue_leases', queue, NULL, NULL, count(*) FROM job
        WHERE state = 'STARTED' AND lease_until < now() GROUP BY 2"""

COUNTED = set(re.findall(r"SELECT '(\w+)'", TRUTH))
NAMES = {str(step): name for name, step in PRIORITIES.items()}


def truth(on: Connection) -> Samples:
    rows = on.execute(text(TRUTH)).all()
    return {tuple(NAMES.get(each, each) for each in labels if each is not None): float(n) for *labels, n in rows}


def samples(told: Iterable[Metric]) -> Samples:
    """Of the metrics that are compared, and two sums that the truth counts more plainly."""
    found: Samples = {}
    for sample in (each for family in told for each in family.samples):
        labels = [value for _, value in sorted(sample.labels.items())]
        found[sample.name, *labels] = sample.value
        if sample.name == "gristmill_queue_jobs" and sample.labels["state"] in ("waiting", "held"):
            _add(found, ("due", *labels[:2]), sample.value)
        if sample.name == "gristmill_attempts_spared_total":
            _add(found, ("spared", sample.labels["kind"]), sample.value)
        if sample.name == "gristmill_job_wait_seconds_count":
            _add(found, ("started", sample.labels["kind"]), sample.value)
    return found


def _add(to: Samples, key: Labels, value: float) -> None:
    to[key] = to.get(key, 0) + value


def differences(told: Samples, true: Samples) -> dict[Labels, tuple[float, float]]:
    """Where they are not equal; what one does not name is 0."""
    keys = true.keys() | {key for key in told if key[0] in COUNTED and not {"waiting", "held"} & set(key)}
    pairs = {key: (told.get(key, 0), true.get(key, 0)) for key in keys}
    return {key: pair for key, pair in pairs.items() if abs(pair[0] - pair[1]) > 1e-5}


def scrape(address: str) -> list[Metric]:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


@pytest.fixture
def address(quiet: Path) -> Iterator[str]:
    """Of metrics that are served."""
    process = Process([sys.executable, "-m", "workers", "metrics", "--port", "19464"], quiet)
    try:
        yield process.wait_for("metrics: http").split()[-1]
    finally:
        process.kill()


@pytest.fixture
def crew(quiet: Path) -> Iterator[list[Process]]:
    """A relay and two workers, all of whom may be killed."""
    started: list[Process] = []
    try:
        started.append(start_relay(quiet, **LEASE))
        started += [start_worker(quiet, name=name, **LEASE) for name in ("one", "two")]
        yield started
    finally:
        for process in started:
            process.kill()


def equal_in_one_instant(reader: LedgerReader) -> Samples:
    """What the metrics say, having compared it with the ledger of the same snapshot."""
    with engine().connect() as connection:
        connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        told = samples(families(reader.look(connection)))
        assert differences(told, truth(connection)) == {}
    return told


def between(address: str) -> tuple[Samples, float]:
    """A scrape, having compared its counters with the ledger before and after it; and how long it took."""
    with autocommit() as connection:
        before = truth(connection)
        began = time.monotonic()
        told = samples(scrape(address))
        took = time.monotonic() - began
        after = truth(connection)
    counters = {key for key in told.keys() | after.keys() if key[0].endswith("_total") and key[0] in COUNTED}
    wrong = {key: (before.get(key, 0), told.get(key, 0), after.get(key, 0)) for key in counters
             if not before.get(key, 0) <= told.get(key, 0) <= after.get(key, 0)}  # fmt: skip
    assert wrong == {}
    live = total(told, "gristmill_queue_jobs")
    assert live == total(told, "gristmill_jobs_submitted_total") - total(told, "gristmill_jobs_finished_total")
    return told, took


def total(told: Samples, name: str, *labels: str) -> float:
    return sum(value for key, value in told.items() if key[0] == name and set(labels) <= set(key))


def until(look: Callable[[], Samples], enough: Callable[[Samples], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not enough(told := look()):
        assert time.monotonic() < deadline, told
        time.sleep(0.1)  # leaves the cores to the workers


def fill(look: Callable[[], Samples], go: Path) -> Path:
    """Every process of the two workers runs a job, until the file is there."""
    jobs.step.submit_many([{"go": str(go)}] * 4)
    until(look, lambda told: total(told, "gristmill_queue_jobs", "running") == 4)
    return go


@pytest.mark.timeout(900)
def test_under_load_the_metrics_are_what_the_ledger_holds_in_the_same_instant(
    address: str, crew: list[Process], quiet: Path, tmp_path: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    reader, scrapes = LedgerReader(), list[float]()
    size, go = 3000 if full else 300, tmp_path / "go"

    def look() -> Samples:
        reader.settle()
        equal_in_one_instant(reader)
        told, took = between(address)
        scrapes.append(took)
        return told

    # Processes that have just started take seconds to claim, and the relay sends what they are about to take again.
    fill(look, tmp_path / "warm").touch()
    until(look, lambda told: total(told, "gristmill_queue_jobs") == 0 == lengths(["cpu"])["cpu"])

    fill(look, go)
    assert lengths(["cpu"]) == {"cpu": 0}  # four jobs run, and Redis knows of nothing
    assert total(look(), "gristmill_busy_workers", "cpu") == 2

    jobs.nothing.submit_many([{}] * size)
    jobs.nothing.submit_many([{}] * 40, owner="ann", priority="bulk")
    jobs.fail.submit_many([{"until_attempt": 2}] * 20 + [{}] * 10 + [{"permanent": True}] * 5)
    jobs.add.apply_async((1,), countdown=600)
    jobs.nothing.apply_async(queue="gpu.none", priority="interactive")
    jobs.fan.submit(n=10)
    jobs.poison.submit()
    assert total(look(), "gristmill_queue_jobs", "held") == 40 - 16

    crew[1].kill()
    until(look, lambda told: total(told, "gristmill_leases_lost_total") == 2)
    go.touch()
    until(look, lambda told: total(told, "due", "cpu") + total(told, "gristmill_queue_jobs", "cpu") == 1, 300)

    told = equal_in_one_instant(reader)
    with autocommit() as connection:
        attempts, lost = connection.execute(text(
            "SELECT (SELECT sum(attempt) FROM job), (SELECT count(*) FROM job_event WHERE cause = 'WorkerLost')"
        )).one()  # fmt: skip
    assert total(told, "gristmill_attempts_total") == attempts
    assert total(told, "gristmill_leases_lost_total") == lost == 2
    assert total(told, "gristmill_attempts_failed_total", "WorkerLostError") == 2  # the poison's
    assert total(told, "gristmill_attempts_spared_total", "Suspended") == 1
    ms = [1000 * took for took in scrapes]
    figure(18, f"{len(ms)} scrapes, {attempts} attempts, a worker killed: each is the ledger in its instant (LLEN "
               f"was 0 while 4 ran); one takes {statistics.median(ms):.0f} ms, at most {max(ms):.0f}")  # fmt: skip


@pytest.mark.parametrize("how", ["stopped", "paused"])
def test_without_postgres_the_metrics_say_so_in_time_and_nothing_else(address: str, quiet: Path, how: str) -> None:
    assert total(samples(scrape(address)), "gristmill_up") == 1

    with postgres_away(quiet, how):
        began = time.monotonic()
        assert samples(scrape(address)) == {("gristmill_up",): 0}
        assert time.monotonic() - began < 10  # when Prometheus gives up

    until(lambda: samples(scrape(address)), lambda told: total(told, "gristmill_up") == 1, 60)
