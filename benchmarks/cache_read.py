"""A cached list read by 50 readers at once, from Redis and from Postgres: every read is `jobs.recommend.cache.read`.

The readers are threads of several processes. First each asks again as soon as it is answered, which says how many reads
a second the machine can do: a reader then waits for the 49 others, not for the cache. Then they ask at moments drawn at
random, at a stated share of that rate together, and a read counts from the moment at which it was due, whether or not
its reader was free. For Postgres no user's list is in Redis when it is read, so each is read once, and put there.
Readers, Postgres and Redis share this machine's cores.
Last line: {"redis_p50_ms": …, "redis_p99_ms": …, "postgres_p50_ms": …, "postgres_p99_ms": …, "readers": …, …}.
"""

import argparse
import json
import multiprocessing
import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.services import services

TOP_K = 100
TIERS = ("redis", "postgres")


@dataclass(frozen=True)
class Load:
    tier: str
    readers: int  # of one process
    seconds: float
    per_s: float | None  # of one reader; None: as fast as it is answered


def fill(users: int) -> list[str]:
    """Users with a fresh list of 100 items, of a model that is in use."""
    from db import recommend as rows
    from db.engine import session
    from jobs.recommend.profile import profile_hash

    chance = random.Random(0)
    names = [f"user-{number:06d}" for number in range(users)]
    histories = {name: [str(chance.randrange(50_000)) for _ in range(30)] for name in names}
    with session() as opened:
        on = opened.connection()
        on.exec_driver_sql(
            "INSERT INTO artifact (digest, kind, size_bytes, manifest) VALUES ('none', 'model', 0, '{}')"
        )
        on.exec_driver_sql(
            "INSERT INTO model (name, version, artifact_digest, metrics, lineage, is_current) "
            "VALUES ('recommend', 1, 'none', '{}', '{}', true)"
        )
        hashes = {name: profile_hash(items) for name, items in histories.items()}
        told = [
            {"username": name, "external_id": None, "item_ids": histories[name], "profile_hash": hashes[name]}
            for name in names
        ]
        rows.put_profiles(opened, told)
        lists = [
            {
                "username": name,
                "profile_hash": hashes[name],
                "features": {},
                "items": [[str(chance.randrange(50_000)), round(9 - place / 20, 4)] for place in range(TOP_K)],
            }
            for name in names
        ]
        rows.put_lists(opened, lists, model_version=1, top_k=TOP_K)
    with session() as opened:
        opened.connection(execution_options={"isolation_level": "AUTOCOMMIT"}).exec_driver_sql("VACUUM ANALYZE")
    return names


def prepare(tier: str, names: Sequence[str]) -> None:
    """All lists in Redis, or none of them."""
    from broker.cache import forget
    from db import recommend as rows
    from db.engine import autocommit
    from jobs.recommend import cache

    if tier == "postgres":
        return forget(names)
    with autocommit() as connection:
        for begin in range(0, len(names), 500):
            found = [rows.read(connection, name, TOP_K) for name in names[begin : begin + 500]]
            cache.put([row for row in found if row])
    return None


def process(load: Load, parts: Sequence[Sequence[str]], ready: Any, answers: Any) -> None:
    """The threads of one process; puts the latencies of all of them, in milliseconds, and what was unexpected."""
    took: list[float] = []
    wrong: list[str] = []
    threads = [threading.Thread(target=read_on, args=(load, part, ready, took, wrong)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put((took, wrong))


def read_on(load: Load, names: Sequence[str], ready: Any, took: list[float], wrong: list[str]) -> None:
    from jobs.recommend import cache

    chance = random.Random(names[0])
    warm, own = names[:3], list(names[3:])
    for name in warm:
        cache.read(name, TOP_K)
    ready.wait()
    began = due = time.perf_counter()
    place = 0
    while True:
        if load.per_s:
            due += chance.expovariate(load.per_s)
            time.sleep(max(0.0, due - time.perf_counter()))
        else:
            due = time.perf_counter()
        if due - began > load.seconds or place == len(own):
            return
        found = cache.read(own[place], TOP_K)
        took.append((time.perf_counter() - due) * 1e3)
        if found is None or found.source != load.tier or len(found.items) != TOP_K:
            wrong.append(own[place])
        place += 1
        if load.tier == "redis":
            place %= len(own)


def run(tier: str, names: list[str], processes: int, readers: int, seconds: float, per_s: float | None) -> list[float]:
    """Latencies in milliseconds, sorted; `per_s` reads of all readers together."""
    prepare(tier, names)
    random.Random(len(names)).shuffle(names)
    each = len(names) // (processes * readers)
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(processes * readers), context.Queue()
    load = Load(tier, readers, seconds, per_s and per_s / (processes * readers))
    running = []
    for number in range(processes):
        first = number * readers
        parts = [names[(first + thread) * each : (first + thread + 1) * each] for thread in range(readers)]
        running.append(context.Process(target=process, args=(load, parts, ready, answers)))
        running[-1].start()
    took, wrong = zip(*(answers.get(timeout=seconds + 120) for _ in running), strict=True)
    for each_process in running:
        each_process.join()
    if unexpected := sum(map(len, wrong)):
        print(f"{unexpected} reads were not from {tier}", file=sys.stderr)
    return sorted(value for part in took for value in part)


def percentile(values: Sequence[float], share: float) -> float:
    return round(values[min(len(values) - 1, int(share * len(values)))], 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=40_000, help="with a cached list")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--readers", type=int, default=50, help="in all processes together")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--share", type=float, default=0.4, help="of the most reads a second, for the paced readers")
    options = parser.parse_args()
    result: dict[str, Any] = {"readers": options.readers, "share": options.share}
    with services():
        names = fill(options.users)
        for tier in TIERS:
            readers = options.readers // options.processes
            shared = (tier, names, options.processes, readers)
            flat_out = run(*shared, options.seconds / 4, None)
            most = len(flat_out) / (options.seconds / 4)
            print(
                f"{tier:9} as fast as answered: {most:6.0f} reads/s   "
                f"p50 {percentile(flat_out, 0.5):7.2f} ms   p99 {percentile(flat_out, 0.99):7.2f} ms"
            )
            paced = run(*shared, options.seconds, options.share * most)
            rate = len(paced) / options.seconds
            result |= {f"{tier}_p50_ms": percentile(paced, 0.5), f"{tier}_p99_ms": percentile(paced, 0.99)}
            result |= {f"{tier}_reads_per_s": round(rate, 1), f"{tier}_most_reads_per_s": round(most, 1)}
            print(
                f"{tier:9} paced:               {rate:6.0f} reads/s   "
                f"p50 {result[f'{tier}_p50_ms']:7.2f} ms   p99 {result[f'{tier}_p99_ms']:7.2f} ms"
            )
    result["reads_per_s"] = result["redis_reads_per_s"]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
