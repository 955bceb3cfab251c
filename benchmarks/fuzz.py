"""Fuzzing the HTTP API by its own OpenAPI document: no 5xx, no undocumented answer; and how each operation answered.

Three of four requests name jobs, models, artifacts and users that there are (benchmarks/fuzz_hooks.py), so that what is
done to them is met as well, and not only that they are missing. Arguments go to schemathesis. Only predictions have a
worker: other jobs of random parameters wait, and never run. It takes four minutes on any machine; --max-time SECONDS
says otherwise. Last line: {"answers": …, "operations": …, "without_2xx": […], "server_errors": …}.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.batching import NAME, bag, cpu_worker, register
from benchmarks.http import HOST, door
from benchmarks.services import ROOT, relay, services

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PHASES = "fuzzing"  # the document names every kind's parameters: to cover each by itself takes an hour
SECONDS, EXAMPLES = 240, 5  # rounds of so many requests to each operation, until the time is over
FILE, EVENTS = "GET /api/v1/artifacts/{digest}/{name}", "GET /api/v1/jobs/{job}/events"


def there(files: list[str]) -> dict[str, list[Any]]:
    """Rows of every sort, and their names; files: those of the classifier."""
    from benchmarks.jobs import noop
    from db import ledger, registry
    from db.engine import autocommit, session
    from db.recommend import CatalogueItem, UserProfile

    error = {"type": "JobError", "module": "m", "message": "no", "traceback": None}
    waiting = noop.submit_many([{}] * 200)
    done, failed, running = (noop.submit_many([{}] * 10) for _ in range(3))
    with autocommit() as on:
        for job in map(UUID, [*done, *failed, *running]):
            claimed = ledger.claim(on, job, "worker", 86_400)
            assert claimed is not None
            if str(job) in done:
                ledger.succeed(on, job, claimed.attempt, {"answer": 42})
            elif str(job) in failed:
                ledger.fail(on, job, claimed.attempt, error, permanent=True)
    with session() as opened:
        model = registry.current(opened, NAME)
        assert model is not None
        for in_use in (None, 1):
            registry.add(opened, "fuzzed", model.artifact_digest, {}, {}, None, promote_over=in_use)
        registry.add(opened, "recommend", model.artifact_digest, {}, {}, None, promote_over=None)
        opened.add(CatalogueItem(item_id="50", title="Star Wars", features={}, popularity=3.0))
        opened.add(UserProfile(username="ann", item_ids=["50"], item_count=1, features={}, profile_hash="a"))
    others = [*done, *failed, *running]
    mixed = [each for turn, job in enumerate(waiting) for each in (job, others[7 * turn % len(others)])]
    return {
        "job": [*mixed, done[0][:8]],
        f"{EVENTS} job": [*done, *failed],  # the streams of others have no end
        EVENTS: [{}, {"Last-Event-ID": "0"}, {"Last-Event-ID": "999999999"}],
        "kind": ["benchmarks.noop", "classify.predict"],
        "name": ["fuzzed"],
        "version": [1, 2],
        "digest": [model.artifact_digest],
        f"{FILE} name": files,
        FILE: [{}, {"Range": "bytes=0-9"}, {"Range": "bytes=999999999-"}, {"Range": "bytes=-9"}, {"Range": "lines=1"}],
        "username": ["ann", "nobody"],
    }


def main() -> int:
    program = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
    if program is None:
        sys.exit("schemathesis is not installed: pip install schemathesis, in an environment of its own if you like")
    with services(), tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        register(bag(folder / "bag"))
        files = [each.name for each in (folder / "bag").iterdir() if each.suffix != ".json"]  # a part of JSON is none
        (folder / "there.json").write_text(json.dumps(there(files)))
        hooks = {"SCHEMATHESIS_HOOKS": "benchmarks.fuzz_hooks", "GRISTMILL_FUZZ": made, "PYTHONPATH": str(ROOT)}
        settings = {"GRISTMILL_PREDICT_MODEL": NAME, "GRISTMILL_PREDICT_SECONDS": "60"}
        with relay(), cpu_worker(), door(**settings, GRISTMILL_WEB_BODY_BYTES="100kB") as served:
            place = f"http://{HOST}:{served.port}"
            command = [program, "run", f"{place}/api/openapi.json", "--url", place, "--checks", CHECKS]
            options = ["--phases", PHASES, "--continue-on-failure", "--request-timeout", "90"]
            options += ["--max-time", str(SECONDS), "--max-examples", str(EXAMPLES)]
            code = subprocess.run([*command, *options, *sys.argv[1:]], cwd=made, env={**os.environ, **hooks}).returncode
        answers = defaultdict[str, Counter[int]](Counter)
        for line in (folder / "answers").read_text().splitlines():
            operation, status = line.split("\t")
            answers[operation][int(status)] += 1
    faults = show(answers)
    return code or faults


def show(answers: dict[str, Counter[int]]) -> int:
    """Print how each operation answered; 1 if any had a fault."""
    for operation, counts in sorted(answers.items()):
        print(f"{operation:56}", *(f"{status}: {count}" for status, count in sorted(counts.items())), sep="  ")
    faults = sum(count for counts in answers.values() for status, count in counts.items() if status >= 500)
    figures = {
        "answers": sum(map(Counter.total, answers.values())),
        "operations": len(answers),
        "without_2xx": sorted(name for name, counts in answers.items() if not any(s < 300 for s in counts)),
        "server_errors": faults,
    }
    print(json.dumps(figures))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
