"""Submitting 10,000 jobs with `submit_many` against the loop of stock Celery's `apply_async` on the same Redis.

Ours are rows in Postgres and messages in Redis when the call returns; Celery's are messages in Redis only.
Last line: {"jobs_per_s": …, "ratio_to_apply_async": …}.
"""

import argparse
import json
import statistics
import time

from benchmarks.services import services


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ours, peer = [], []
    with services():
        from benchmarks.jobs import noop
        from benchmarks.peer import noop as celery_noop
        from broker.settings import make_client

        noop.submit_many([{}])
        celery_noop.apply_async()  # both are connected now
        for _ in range(options.rounds):
            make_client().flushall()
            begin = time.perf_counter()
            noop.submit_many([{} for _ in range(options.jobs)])
            ours.append(options.jobs / (time.perf_counter() - begin))
            begin = time.perf_counter()
            for _ in range(options.jobs):
                celery_noop.apply_async()
            peer.append(options.jobs / (time.perf_counter() - begin))
    rate, peer_rate = statistics.median(ours), statistics.median(peer)
    print(f"submit_many {rate:8.0f} jobs/s   ({min(ours):.0f} to {max(ours):.0f})")
    print(f"apply_async {peer_rate:8.0f} jobs/s   ({min(peer):.0f} to {max(peer):.0f})")
    print(json.dumps({"jobs_per_s": round(rate), "ratio_to_apply_async": round(rate / peer_rate, 1)}))


if __name__ == "__main__":
    main()
