"""Draining no-op jobs through the ledger, against stock Celery with its database, its Redis and no result backend.

Each round fills a queue, starts a worker of two processes and reads from the stored results when each job was done:
(jobs - 1) / (last - first). Without results, Redis is watched: from the first message that left the queue to the last
one acknowledged. The systems take turns, so that a slow moment of the machine hits all of them; ratios are of medians.
Last line: {"jobs_per_s": …, "ratio_to_celery_database": …, "ratio_to_celery_redis": …, "ratio_to_celery_none": …}.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from benchmarks.services import services, worker

PROCESSES = 2
LIMIT_S = 300.0


def until(ready: Callable[[], bool], look_every_s: float = 0.2) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the queue was not drained within {LIMIT_S:g} s")
        time.sleep(look_every_s)


def rate(done_at: list[datetime]) -> float:
    return (len(done_at) - 1) / (max(done_at) - min(done_at)).total_seconds()


def query(statement: str) -> list[Any]:
    from db.engine import autocommit

    with autocommit() as connection:
        result = connection.exec_driver_sql(statement)
        return list(result) if result.returns_rows else []


def ours(jobs: int) -> float:
    from benchmarks.jobs import noop

    query("TRUNCATE job, job_event")
    noop.submit_many([{} for _ in range(jobs)])
    with worker("broker.app", "cpu", PROCESSES):
        until(lambda: query("SELECT count(*) FROM job WHERE state = 'SUCCESS'")[0][0] == jobs)
    return rate([row[0] for row in query("SELECT finished_at FROM job")])


def fill_peer(jobs: int) -> None:
    from benchmarks.peer import app, noop

    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(jobs):
            noop.apply_async(producer=producer)


def celery_database(jobs: int) -> float:
    query("DROP TABLE IF EXISTS celery_taskmeta")
    fill_peer(jobs)
    count = "SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'"
    exists = "SELECT to_regclass('celery_taskmeta') IS NOT NULL"
    with worker("benchmarks.peer", "peer", PROCESSES, GRISTMILL_PEER_RESULTS="database"):
        until(lambda: query(exists)[0][0] and query(count)[0][0] == jobs)
    return rate([row[0] for row in query("SELECT date_done FROM celery_taskmeta")])


def celery_redis(jobs: int) -> float:
    from broker.settings import make_client

    client = make_client()
    client.flushall()
    fill_peer(jobs)

    def keys() -> list[Any]:
        return list(client.scan_iter("celery-task-meta-*", count=10_000))

    with worker("benchmarks.peer", "peer", PROCESSES, GRISTMILL_PEER_RESULTS="redis"):
        until(lambda: len(keys()) == jobs)
    return rate([datetime.fromisoformat(json.loads(raw)["date_done"]) for raw in client.mget(keys())])


def celery_none(jobs: int) -> float:
    from broker.settings import make_client

    client = make_client()
    client.flushall()
    fill_peer(jobs)

    with worker("benchmarks.peer", "peer", PROCESSES, GRISTMILL_PEER_RESULTS="none"):
        until(lambda: client.llen("peer") < jobs, look_every_s=0.005)
        began = time.monotonic()
        until(lambda: not client.llen("peer") and not client.hlen("unacked"), look_every_s=0.01)
        return (jobs - 1) / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    systems = {
        "gristmill": ours,
        "celery, database results": celery_database,
        "celery, Redis results": celery_redis,
        "celery, no results": celery_none,
    }
    rates: dict[str, list[float]] = {name: [] for name in systems}
    with services():
        for number in range(options.rounds):
            for name, drain in systems.items():
                rates[name].append(drain(options.jobs))
                print(f"round {number + 1}: {name}: {rates[name][-1]:.0f} jobs/s", file=sys.stderr)
    ledger, database, redis, none = (statistics.median(each) for each in rates.values())
    for name, each in rates.items():
        print(f"{name:26} {statistics.median(each):6.0f} jobs/s   ({min(each):.0f} to {max(each):.0f})")
    ratios = {
        "ratio_to_celery_database": round(ledger / database, 2),
        "ratio_to_celery_redis": round(ledger / redis, 2),
        "ratio_to_celery_none": round(ledger / none, 2),
    }
    print(json.dumps({"jobs_per_s": round(ledger, 1), **ratios}))


if __name__ == "__main__":
    main()
