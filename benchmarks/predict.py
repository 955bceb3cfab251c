"""POST /predict under 64 concurrent clients, with batches and with one forward pass a request, on one cpu worker.

Two doors stand before the same worker of as many processes as `gristmill worker cpu` starts: the jobs of one may run in
one batch, those of the other may not; they take turns. Beside them, for information, the bare alternative: FastAPI with
the model in its own process, one forward pass a request, nothing recorded, nothing retried, as many processes.
Last line: {"ratio": …, "p99_ms": …, "requests_per_s": …, "requests_per_s_off": …, "requests_per_s_bare": …, …}.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.batching import NAME, bag, cpu_worker, register, texts
from benchmarks.drain import query
from benchmarks.http import door, storm
from benchmarks.services import relay, services

BARE = """
import sys
from pathlib import Path
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from jobs.text.models import open_model

app, model = FastAPI(), open_model(Path(sys.argv[1]))

class Question(BaseModel):
    text: str

@app.get("/health/live")
def live():
    return {}

@app.post("/predict")
def predict(asked: Question):
    return {"text": asked.text, "pred_class": model.predict([asked.text])[0]["label"], "status": 200}

if __name__ == "__main__":
    import os
    uvicorn.run(app, port=int(os.environ["GRISTMILL_WEB_PORT"]), log_level="error")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, help="an artifact's folder instead of a bag of words made on the spot")
    options = parser.parse_args()
    asked = texts(1000)

    def ask(number: int) -> tuple[str, Any]:
        return "/predict", {"text": asked[number % len(asked)]}

    rates: dict[str, list[float]] = {"on": [], "off": [], "bare": []}
    taken: dict[str, list[float]] = {"on": [], "off": [], "bare": []}
    with services(), tempfile.TemporaryDirectory() as made:
        folder = options.model or bag(Path(made) / "bag")
        register(folder)
        settings = {"GRISTMILL_PREDICT_MODEL": NAME, "GRISTMILL_PREDICT_SECONDS": "120"}
        bare = ("-c", BARE, str(folder))
        with (
            relay(),
            cpu_worker(),
            door(**settings, GRISTMILL_BATCHING="on") as on,
            door(**settings, GRISTMILL_BATCHING="off") as off,
            door(bare) as alone,
        ):
            ports = {"on": on.port, "off": off.port, "bare": alone.port}
            for port in ports.values():
                storm(port, 8, 100, ask)  # the model is resident, and everybody is connected
            for number in range(options.rounds):
                for name in sorted(ports, reverse=bool(number % 2)):
                    query("TRUNCATE job, job_event")
                    # One by one they take so long that fewer say as much.
                    requests = options.requests // (4 if name == "off" else 1)
                    rate, milliseconds = storm(ports[name], options.clients, requests, ask)
                    rates[name].append(rate)
                    taken[name] += milliseconds
                    print(f"round {number + 1}: {name} {rate:.0f} requests/s", file=sys.stderr)
    for name, said in (("on", "batches"), ("off", "one forward pass a request"), ("bare", "bare, in the web process")):
        p50, p99 = np.percentile(taken[name], (50, 99))
        spread = f"({min(rates[name]):.0f} to {max(rates[name]):.0f})"
        print(
            f"{said:28} {statistics.median(rates[name]):6.0f} requests/s {spread:16} p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        )
    figures = {
        "ratio": round(statistics.median(a / b for a, b in zip(rates["on"], rates["off"], strict=True)), 2),
        "p99_ms": round(float(np.percentile(taken["on"], 99)), 1),
        "p99_ms_off": round(float(np.percentile(taken["off"], 99)), 1),
        **{
            f"requests_per_s{suffix}": round(statistics.median(rates[name]))
            for name, suffix in (("on", ""), ("off", "_off"), ("bare", "_bare"))
        },
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
