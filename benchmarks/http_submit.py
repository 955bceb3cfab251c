"""Submitting over HTTP: this door against a bare FastAPI endpoint that calls Celery's apply_async on the same Redis.

Ours are checked, rows in Postgres and messages in Redis when the answer comes; those of the bare endpoint are messages
in Redis only. One process each, so many clients at once, taking turns; the ratio is the median of the rounds' ratios.
cpu_ms: processor time of the web process for one submission.
Last line: {"ratio_to_bare": …, "submissions_per_s": …, "p99_ms": …, …}.
"""

import argparse
import json
import statistics
import sys
from typing import Any

import numpy as np

from benchmarks.http import door, storm
from benchmarks.services import services

BARE = """
import os
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from benchmarks.peer import noop

app = FastAPI()

class Params(BaseModel):
    pass

@app.get("/health/live")
def live():
    return {}

@app.post("/jobs")
def submit(params: Params):
    return {"id": noop.apply_async(kwargs=params.model_dump()).id}

uvicorn.run(app, port=int(os.environ["GRISTMILL_WEB_PORT"]), log_level="error")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    asks: dict[str, tuple[str, Any]] = {
        "ours": ("/api/v1/jobs", {"kind": "benchmarks.noop", "params": {}}),
        "bare": ("/jobs", {}),
    }
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    taken: dict[str, list[float]] = {"ours": [], "bare": []}
    cpu_ms: dict[str, list[float]] = {"ours": [], "bare": []}
    with services():
        from broker.settings import make_client

        with door() as ours, door(("-c", BARE)) as bare:
            doors = {"ours": ours, "bare": bare}
            for name, each in doors.items():
                storm(each.port, 8, 200, lambda _, ask=asks[name]: ask)  # type: ignore[misc]
            for number in range(options.rounds):
                for name in sorted(doors, reverse=bool(number % 2)):
                    make_client().flushall()
                    used = doors[name].cpu_s()
                    rate, milliseconds = storm(
                        doors[name].port,
                        options.clients,
                        options.requests,
                        lambda _, ask=asks[name]: ask,  # type: ignore[misc]
                    )
                    rates[name].append(rate)
                    taken[name] += milliseconds
                    cpu_ms[name].append(1000 * (doors[name].cpu_s() - used) / options.requests)
                    print(f"round {number + 1}: {name} {rate:.0f} submissions/s", file=sys.stderr)
    for name in rates:
        p50, p99 = np.percentile(taken[name], (50, 99))
        spread = f"({min(rates[name]):.0f} to {max(rates[name]):.0f})"
        print(
            f"{name} {statistics.median(rates[name]):6.0f} submissions/s {spread:16} p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        )
    figures = {
        "ratio_to_bare": round(statistics.median(a / b for a, b in zip(rates["ours"], rates["bare"], strict=True)), 2),
        "submissions_per_s": round(statistics.median(rates["ours"])),
        "submissions_per_s_bare": round(statistics.median(rates["bare"])),
        "cpu_ms": round(statistics.median(cpu_ms["ours"]), 3),
        "cpu_ms_bare": round(statistics.median(cpu_ms["bare"]), 3),
        "p99_ms": round(float(np.percentile(taken["ours"], 99)), 1),
        "p99_ms_bare": round(float(np.percentile(taken["bare"], 99)), 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
