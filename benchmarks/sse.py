"""1,000 listeners to the events of 100 jobs while jobs are submitted: how late they hear, how long a submission takes.

The jobs are moved on in the ledger as their workers would, each once a second (progress, which says when it was
written), and all end within the last seconds; another client submits at a steady rate. Listeners, submitter, mover and
door are a process each. An event's lag is from before it is written to when the listener has read it.
door_cpu: processor time of the door, as a share of one core.
Last line: {"listeners": …, "lag_p99_s": …, "submit_p99_ms": …, …}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import sys
import time
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any
from uuid import UUID

import numpy as np

from benchmarks.http import HOST, Client, Listener, door
from benchmarks.services import services

API = "/api/v1/jobs"


def listen(port: int, jobs: list[str], listeners: int, ready: Event, found: Any) -> None:
    """So many streams; gives the lag of every event after the first, and how many streams heard their job's end."""
    lags, begun, ended = list[float](), set[int](), set[int]()

    async def run() -> None:
        left, over = set(range(listeners)), asyncio.Event()

        def hear(number: int, now: float, data: bytes) -> None:
            begun.add(number)
            event = json.loads(data)
            if event.get("final"):
                ended.add(number)
                close(number)
                event = event["result"]
            if "sent_at" in event:
                lags.append(now - event["sent_at"])

        def close(number: int) -> None:
            left.discard(number)
            if not left:
                over.set()

        loop = asyncio.get_running_loop()
        for number in range(listeners):
            path = f"{API}/{jobs[number % len(jobs)]}/events"
            await loop.create_connection(
                lambda path=path, n=number: Listener(path, partial(hear, n), partial(close, n)), HOST, port
            )
        while len(begun) < listeners:
            await asyncio.sleep(0.05)
        ready.set()
        await over.wait()

    asyncio.run(run())
    found.put(("lags", lags, len(ended)))


def submit(port: int, per_s: float, over: Event, found: Any) -> None:
    """At a steady rate, whether or not the one before was answered: the milliseconds of each."""

    async def run() -> None:
        clients = [await Client(port).__aenter__() for _ in range(16)]
        free: asyncio.Queue[Client] = asyncio.Queue()
        for each in clients:
            free.put_nowait(each)
        taken = list[float]()

        async def one(due: float) -> None:
            client = await free.get()
            status, _ = await client.post(API, {"kind": "benchmarks.noop"})
            taken.append(1000 * (time.perf_counter() - due))
            free.put_nowait(client)
            assert status == 201, status

        tasks = []
        due = time.perf_counter()
        while not over.is_set():
            due += 1 / per_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(due)))
        await asyncio.gather(*tasks)
        found.put(("submit", taken, 0))

    asyncio.run(run())


def move(jobs: list[str], seconds: float) -> None:
    """What the jobs' workers would write."""
    from db import ledger
    from db.engine import autocommit

    chance = random.Random(0)
    with autocommit() as on:
        attempts = {}
        for job in jobs:
            claimed = ledger.claim(on, UUID(job), "benchmark", 600)
            assert claimed is not None
            attempts[job] = claimed.attempt
        began = time.monotonic()
        due = [(began + chance.random(), job) for job in jobs]
        step = 0
        while due:
            due.sort()
            at, job = due.pop(0)
            time.sleep(max(0.0, at - time.monotonic()))
            step += 1
            if at - began < seconds:
                told = {"done": step, "total": 0, "sent_at": time.time()}
                ledger.progress(on, UUID(job), attempts[job], told)
                due.append((at + 1, job))
            else:
                ledger.succeed(on, UUID(job), attempts[job], {"sent_at": time.time()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--submissions", type=float, default=20, help="a second; 0: none")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))
    spawn = multiprocessing.get_context("spawn")
    with services():
        from benchmarks.jobs import noop

        jobs = noop.submit_many([{} for _ in range(options.jobs)])
        with door() as served:
            ready, over, found = spawn.Event(), spawn.Event(), spawn.Queue()
            listeners = spawn.Process(target=listen, args=(served.port, jobs, options.listeners, ready, found))
            submitter = spawn.Process(target=submit, args=(served.port, options.submissions, over, found))
            listeners.start()
            if not ready.wait(120):
                raise TimeoutError("the listeners were not all connected within two minutes")
            print(f"{options.listeners} listeners are connected", file=sys.stderr)
            processes = [listeners, submitter] if options.submissions else [listeners]
            if options.submissions:
                submitter.start()
            began, used = time.monotonic(), served.cpu_s()
            move(jobs, options.seconds)
            over.set()
            got = {name: (values, count) for name, values, count in (found.get(timeout=60) for _ in processes)}
            seconds, used = time.monotonic() - began, served.cpu_s() - used
            for each in processes:
                each.join()
    (lags, heard), (taken, _) = got["lags"], got.get("submit", ([0.0], 0))
    lag50, lag99 = np.percentile(lags, (50, 99))
    p50, p99 = np.percentile(taken, (50, 99))
    print(f"{len(lags) / seconds:.0f} events/s written to streams; the door took {used / seconds:.0%} of a core")
    print(f"{len(lags)} events to {heard} of {options.listeners} listeners: p50 {lag50:.3f} s, p99 {lag99:.3f} s late, "
          f"at most {max(lags):.3f} s")  # fmt: skip
    print(f"{len(taken)} submissions, {options.submissions:g} a second: p50 {p50:.1f} ms, p99 {p99:.1f} ms; "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    figures = {
        "listeners": heard,
        "lag_p50_s": round(float(lag50), 3),
        "lag_p99_s": round(float(lag99), 3),
        "lag_max_s": round(max(lags), 3),
        "events_per_s": round(len(lags) / seconds),
        "door_cpu": round(used / seconds, 3),
        "submit_p50_ms": round(float(p50), 1),
        "submit_p99_ms": round(float(p99), 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
