"""Predictions over the queue with batching on and off: 2,000 texts enqueued one by one, drained by one cpu worker.

In each round a queue is filled, a worker of as many processes as `gristmill worker cpu` starts drains it, and the
rows say how many jobs were done between the end of the first and that of the last: neither the worker's start nor the
loading of the model is in it. On and off take turns; the ratio is the median of the rounds' ratios. Then 200 texts
one by one on the idle queue, each from `submit` to its answer in this process; on and off take turns here as well.
Last line: {"ratio": …, "p50_ms": …, "p99_ms": …, "jobs_per_s": …, "jobs_per_s_off": …, "p50_ms_off": …, …}.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.drain import query, until
from benchmarks.services import services, worker

NAME = "benchmark"
WORDS = tuple(f"word{number}" for number in range(20_000))


def bag(folder: Path) -> Path:
    """A student-sized classifier: 20,000 words of 64 numbers, 10 classes."""
    from tests.unit.text.bag import write

    random = np.random.default_rng(0)
    vectors, weights = random.normal(size=(len(WORDS) + 2, 64)), random.normal(size=(64, 10))
    return write(folder, WORDS, vectors, weights, [f"class{number}" for number in range(10)], max_length=32)


def register(folder: Path) -> None:
    from db import registry
    from db.engine import session
    from db.settings import settings
    from db.store import ArtifactStore

    stored = ArtifactStore(settings().artifacts(), settings().home).put(folder)
    with session() as opened:
        registry.record(opened, stored, "classify", None)
        registry.add(opened, NAME, stored.digest, {}, {}, None, promote_over=None)


def texts(count: int) -> list[str]:
    """Of the length of headlines: 5 to 20 words."""
    random = np.random.default_rng(1)
    return [" ".join(random.choice(WORDS, int(random.integers(5, 21)))) for _ in range(count)]


@contextmanager
def batching(on: bool) -> Iterator[None]:
    """This process as a client, and the workers that it starts."""
    from broker.settings import settings

    os.environ["GRISTMILL_BATCHING"] = "on" if on else "off"
    settings.cache_clear()
    yield


@contextmanager
def cpu_worker() -> Iterator[None]:
    from workers.process import cpu_plan, threads

    processes, each = cpu_plan(None, None)
    with worker("broker.app", "cpu.predict", processes, **threads(each)):
        yield


def drained(some: list[str]) -> tuple[float, float]:
    """Jobs a second of the worker, and of the loop that enqueued them."""
    from jobs.classify.tasks import predict

    query("TRUNCATE job, job_event")
    began = time.perf_counter()
    for text in some:
        predict.submit(model=NAME, text=text)
    enqueued = len(some) / (time.perf_counter() - began)
    with cpu_worker():
        until(lambda: query("SELECT count(*) FROM job WHERE state = 'SUCCESS'")[0][0] == len(some))
    done_at = [row[0] for row in query("SELECT finished_at FROM job")]
    first, last = min(done_at), max(done_at)
    return sum(each > first for each in done_at) / (last - first).total_seconds(), enqueued


def answered(some: list[str]) -> list[float]:
    """Milliseconds from `submit` to the answer, one after the other."""
    from jobs.classify.tasks import predict

    taken = []
    for text in some:
        began = time.perf_counter()
        predict.submit(model=NAME, text=text).get(timeout=60)
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def idle(requests: int) -> dict[bool, list[float]]:
    """With one warm worker for on and off: it is the client whose jobs may be batched or not."""
    found: dict[bool, list[float]] = {True: [], False: []}
    query("TRUNCATE job, job_event")
    with batching(True), cpu_worker():
        answered(texts(20))  # the model is resident now
        for part in range(4):
            for on in (True, False):
                with batching(on):
                    found[on] += answered(texts(requests // 4 * (part + 1))[-(requests // 4) :])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--model", type=Path, help="an artifact's folder instead of a bag of words made on the spot")
    options = parser.parse_args()
    rates: dict[bool, list[float]] = {True: [], False: []}
    with services(), tempfile.TemporaryDirectory() as made:
        register(options.model or bag(Path(made) / "bag"))
        for number in range(options.rounds):
            for on in (True, False) if number % 2 else (False, True):
                with batching(on):
                    rate, enqueued = drained(texts(options.jobs))
                rates[on].append(rate)
                said = f"batching {'on' if on else 'off'}: {rate:.0f} jobs/s, enqueued {enqueued:.0f}/s"
                print(f"round {number + 1}: {said}", file=sys.stderr)
        alone = idle(options.requests)
    ratios = [on / off for on, off in zip(rates[True], rates[False], strict=True)]
    for on in (True, False):
        p50, p99 = np.percentile(alone[on], (50, 99))
        spread = f"({min(rates[on]):.0f} to {max(rates[on]):.0f})"
        print(f"batching {'on ' if on else 'off'} {statistics.median(rates[on]):6.0f} jobs/s {spread:16} "
              f"one text on an idle queue: p50 {p50:.1f} ms, p99 {p99:.1f} ms")  # fmt: skip
    figures = {
        "ratio": round(statistics.median(ratios), 2),
        "p50_ms": round(float(np.percentile(alone[True], 50)), 2),
        "p99_ms": round(float(np.percentile(alone[True], 99)), 2),
        "jobs_per_s": round(statistics.median(rates[True])),
        "jobs_per_s_off": round(statistics.median(rates[False])),
        "p50_ms_off": round(float(np.percentile(alone[False], 50)), 2),
        "p99_ms_off": round(float(np.percentile(alone[False], 99)), 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
