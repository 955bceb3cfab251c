"""A cached list read by 50 readers, from Redis and from Postgres: every read is `jobs.recommend.cache.read`.

The readers are threads of several processes, under two loads. **Steady** is what the p50 and p99 of the last line are
of: each reader asks at moments drawn at random, 10 times a second, which together is 500 reads a second (`--rate`); a
read counts from the moment at which it was due, whether or not its reader was free (an open loop). **Flat out** each
reader asks again as soon as it is answered, so that 50 reads are always under way: that says how many reads a second
the machine can do, and its latency is 50 divided by that, mostly waiting for the 49 others.
For Postgres no user's list is in Redis when it is read, so each is read once, and put there.
Readers, Postgres and Redis share this machine's cores.
Last line: {"redis_p50_ms": …, "redis_p99_ms": …, "redis_reads_per_s": …, "redis_flat_out_reads_per_s": …,
"redis_flat_out_p99_ms": …, the same of postgres, "readers": …, "rate": …, "reads_per_s": of steady Redis}.
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
    from jobs.recommend import cache

    if tier == "postgres":
        return forget(names)
    for name in names:
        cache.read(name, TOP_K)
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
    parser.add_argument("--seconds", type=float, default=20, help="of the steady load; a quarter of it flat out")
    parser.add_argument("--rate", type=float, default=500, help="reads a second of all readers together, when steady")
    options = parser.parse_args()
    result: dict[str, Any] = {"readers": options.readers, "rate": options.rate}
    with services():
        names = fill(options.users)
        for tier in TIERS:
            shared = (tier, names, options.processes, options.readers // options.processes)
            for load, seconds, rate in (
                ("flat_out", options.seconds / 4, None),
                ("steady", options.seconds, options.rate),
            ):
                took = run(*shared, seconds, rate)
                per_s, p50, p99 = len(took) / seconds, percentile(took, 0.5), percentile(took, 0.99)
                under_way = per_s * sum(took) / len(took) / 1e3  # Little's law
                print(
                    f"{tier:9} {load:9} {per_s:6.0f} reads/s   p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   "
                    f"{under_way:5.1f} under way on average"
                )
                name = tier if load == "steady" else f"{tier}_{load}"
                result |= {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99, f"{name}_reads_per_s": round(per_s, 1)}
    result["reads_per_s"] = result["redis_reads_per_s"]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
