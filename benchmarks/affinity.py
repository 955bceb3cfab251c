"""How often models are switched: an evaluation of an image editor pair by pair, by category, and as Gristmill does it.

Five categories of the sample, edited and scored by the embedded adapters, whose loading costs what it costs real ones
(2 s, simulated) and of which a worker has room for one. naive: each pair edited and then scored. two_stage: one
category after the other, all its edits, then its scores. one_worker, two_workers: one evaluation, on a worker of both
queues or one for each. Real workers of one process; loads and switches are what the ledger recorded of them. A switch
is a model loaded after another one had to go. naive grows with the pairs (2 a pair, less 1), the others do not. wall_s
is from submission to the last batch: neither a worker's start nor the report is in it.

Mixed: three runs with different editors and one scorer, each editor's queue longer than the affinity budget, and a
text to classify every half second, on two workers of all these queues; once with sticky queues, once with kombu's
round robin. A wait is the time in which a queue has a job that is due and none of its jobs starts; for the texts, the
time from submission to start. The fairness budget is what each other queue may take: the affinity's seconds, and the
job that is running then; a text waits for a running job at most.
Last line: {"switches": {"naive": …, "two_stage": …, "one_worker": …, "two_workers": …}, "wall_s": {the same},
"longest_wait_s": …, "budget_s": …, "mixed": {"switches": {"sticky": …, "round_robin": …}, …}}.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.batching import NAME, bag, register, texts
from benchmarks.drain import query
from benchmarks.services import relay, services, worker

LIMIT_S = 240.0  # of one run
QUEUES = ("gpu.edit.a", "gpu.edit.b", "gpu.edit.c", "gpu.score", "gpu.predict")
TEXT_EVERY_S = 0.5
MIXED_JOB = 2  # pairs
WORK_S = 0.5  # of one pair's edit in the mixed case: with 25 pairs, more than the budget


def configured(folder: Path, benchmark: Path, name: str, **changes: Any) -> Path:
    """A run's configuration as a file."""
    config = {
        "name": name,
        "benchmark": str(benchmark),
        "editor": {"class": "benchmarks.editors.SlowEditor"},
        "scorer": {"class": "benchmarks.editors.SlowScorer"},
        **changes,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    return path


@contextmanager
def gpu_worker(name: str, queues: Sequence[str], app: str = "broker.app", **env: str) -> Iterator[None]:
    """As `gristmill worker gpu --queue …` becomes one; ready when it has run a first job."""
    from benchmarks.editors import MODEL_MEMORY
    from benchmarks.jobs import noop

    memory = {"GRISTMILL_MODEL_MEMORY": MODEL_MEMORY, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with worker(app, ",".join(queues), 1, ["-n", f"{name}@%h"], **memory, **env):
        # In the last queue, which no other worker serves: the job shows that this one is up.
        noop.apply_async(queue=queues[-1]).get(timeout=LIMIT_S)
        yield


def evaluated(configs: Sequence[Path], pairs: int) -> dict[str, Any]:
    """Submit them one after the other; what the ledger recorded of them all."""
    from jobs.edit.tasks import evaluate

    results = [evaluate.submit(config=str(each)).get(timeout=LIMIT_S) for each in configs]
    if (done := sum(each["scored"] + each["failed"] for each in results)) != pairs:
        raise RuntimeError(f"{done} of {pairs} pairs were done")
    return recorded([each["run"] for each in results])


def recorded(runs: Sequence[str]) -> dict[str, Any]:
    """Loads and switches while these runs were edited and scored, and the seconds that each took, added up."""
    from db import edit, residency
    from db.engine import session

    with session() as opened:
        found = [edit.run(opened, each) for each in runs]
        jobs = [job for run in found if run for job in run.jobs]
        moved = residency.summary(opened, jobs)
    seconds = query(f"""
        SELECT extract(epoch FROM max(child.finished_at) - job.created_at) FROM job
        JOIN barrier b ON b.parent_id = job.id JOIN job child ON child.group_id = b.group_id
        WHERE job.id IN ({", ".join(f"'{each}'" for each in jobs)}) GROUP BY job.id""")
    return {"loads": moved["loads"], "switches": moved["switches"], "wall_s": sum(float(row[0]) for row in seconds)}


def alone(folder: Path, benchmark: Path, pairs: int) -> dict[str, dict[str, Any]]:
    """The same five categories in four ways."""
    categories = list(json.loads(benchmark.read_text())["categories"])
    both, total = ("gpu.edit", "gpu.score"), pairs * len(categories)
    found = {}
    one_by_one = {"stages": "one", "batch": {"edit": 1, "score": 1, "job": 1}}
    with gpu_worker("gpu", both):
        found["naive"] = told("naive", evaluated([configured(folder, benchmark, "naive", **one_by_one)], total))
    with gpu_worker("gpu", both):
        by_category = [
            configured(folder, benchmark, f"two_stage_{n}", categories=[c]) for n, c in enumerate(categories)
        ]
        found["two_stage"] = told("two_stage", evaluated(by_category, total))
    with gpu_worker("gpu", both):
        found["one_worker"] = told("one_worker", evaluated([configured(folder, benchmark, "one_worker")], total))
    with gpu_worker("edit", both[:1]), gpu_worker("score", both[1:]):
        found["two_workers"] = told("two_workers", evaluated([configured(folder, benchmark, "two_workers")], total))
    return found


def mixed(folder: Path, benchmark: Path, cycle: str, budget_s: float) -> dict[str, Any]:
    """Three runs and a stream of texts at once, on two workers that serve all their queues."""
    from jobs.classify.tasks import predict
    from jobs.edit.tasks import evaluate

    configs = [
        configured(
            folder, benchmark, f"{cycle}_{each}", batch={"edit": MIXED_JOB, "score": MIXED_JOB, "job": MIXED_JOB},
            editor={"class": "benchmarks.editors.SlowEditor", "parameters": {"model": each, "pair_s": WORK_S}},
            queues={"edit": f"gpu.edit.{each}", "score": "gpu.score"},
        )
        for each in "abc"
    ]  # fmt: skip
    app = "broker.app" if cycle == "sticky" else "benchmarks.round_robin"
    (since,) = query("SELECT now()")[0]
    with ExitStack() as stack:
        for number in range(2):  # each begins with another queue
            name, own = f"gpu{number}", f"gpu.ready{number}"
            order = QUEUES[number:] + QUEUES[:number]
            stack.enter_context(gpu_worker(name, [*order, own], app, GRISTMILL_AFFINITY_SECONDS=str(budget_s)))
        runs = [evaluate.submit(config=str(each)) for each in configs]
        began, asked = time.monotonic(), texts(int(LIMIT_S / TEXT_EVERY_S))
        while not all(each.ready() for each in runs):
            if time.monotonic() - began > LIMIT_S or not asked:
                raise TimeoutError(f"{cycle}: three runs were not done within {LIMIT_S:g} s")
            predict.apply_async(kwargs={"model": NAME, "text": asked.pop()}, queue="gpu.predict")
            time.sleep(TEXT_EVERY_S)
        found = recorded([each.get()["run"] for each in runs])
    return found | waits(since, budget_s)


def waits(since: datetime, budget_s: float) -> dict[str, Any]:
    """The longest wait of each queue, and what it may be, from the jobs' rows."""
    started: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    longest_job_s = 0.0
    rows = query(f"""
        SELECT queue, created_at, started_at, extract(epoch FROM finished_at - started_at) FROM job
        WHERE queue IN ({", ".join(f"'{each}'" for each in QUEUES)}) AND created_at > '{since.isoformat()}'
          AND started_at IS NOT NULL""")
    for queue, created, began, took in rows:
        started[queue].append((began, created))
        longest_job_s = max(longest_job_s, float(took or 0))
    longest: dict[str, float] = {}
    for queue, moments in started.items():
        last = None
        for began, due in sorted(moments):
            from_ = due if last is None or queue == "gpu.predict" else max(due, last)
            longest[queue] = max(longest.get(queue, 0.0), (began - from_).total_seconds())
            last = began
    return {
        "waits_s": {queue: round(each, 1) for queue, each in sorted(longest.items())},
        "longest_job_s": round(longest_job_s, 1),
        "budget_s": round((len(QUEUES) - 1) * (budget_s + longest_job_s), 1),
    }


def told(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    said = ", ".join(
        f"{key} {value if isinstance(value, int | dict) else round(value, 1)}" for key, value in found.items()
    )
    print(f"{name}: {said}", file=sys.stderr)
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=4, help="of each of the five categories")
    parser.add_argument("--mixed-pairs", type=int, default=5, help="of each category, of each of the three runs")
    parser.add_argument("--budget-s", type=float, default=10.0, help="GRISTMILL_AFFINITY_SECONDS of the mixed case")
    options = parser.parse_args()
    with services(), tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        from jobs.edit import sample

        folder = Path(made)
        for name, pairs in (("alone", options.pairs), ("mixed", options.mixed_pairs)):
            sample.write(folder / name, pairs_per_category=pairs, size=128)
        os.environ["GRISTMILL_EDIT_ADAPTERS"] = "benchmarks.editors.*"
        register(bag(folder / "bag"))
        stack.enter_context(relay())
        stack.enter_context(worker("broker.app", "cpu", 1, ["-n", "cpu@%h"], OMP_NUM_THREADS="1"))
        found = alone(folder, folder / "alone" / "benchmark.json", options.pairs)
        both = {
            cycle: told(cycle, mixed(folder, folder / "mixed" / "benchmark.json", cycle, options.budget_s))
            for cycle in ("sticky", "round_robin")
        }
    print(f"{'':12} loads  switches  wall s   of {5 * options.pairs} pairs")
    for name, each in found.items():
        print(f"{name:12} {each['loads']:5}  {each['switches']:8}  {each['wall_s']:6.1f}")
    for cycle, each in both.items():
        print(f"{cycle:12} {each['loads']:5}  {each['switches']:8}  {each['wall_s'] / 3:6.1f}   a run; "
              f"longest waits {each['waits_s']}")  # fmt: skip
    sticky = both["sticky"]
    figures = {
        "switches": {name: each["switches"] for name, each in found.items()},
        "wall_s": {name: round(each["wall_s"], 1) for name, each in found.items()},
        "longest_wait_s": max(sticky["waits_s"].values()),
        "budget_s": sticky["budget_s"],
        "pairs": 5 * options.pairs,
        "mixed": {
            "switches": {cycle: each["switches"] for cycle, each in both.items()},
            "wall_s": {cycle: round(each["wall_s"] / 3, 1) for cycle, each in both.items()},
            "waits_s": {cycle: each["waits_s"] for cycle, each in both.items()},
            "longest_job_s": {cycle: each["longest_job_s"] for cycle, each in both.items()},
        },
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
