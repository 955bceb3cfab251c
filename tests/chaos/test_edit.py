"""Promise 21: an evaluation whose processes and workers are killed edits and scores each of its pairs exactly once."""

import base64
import io
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from PIL import Image
from sqlalchemy import text

from db import edit
from db.engine import session
from jobs.edit.tasks import evaluate
from tests.chaos.servers import until
from tests.processes import Process, start_relay, start_worker
from tests.rows import row

ENV = {"GRISTMILL_LEASE_SECONDS": "3", "GRISTMILL_EDIT_ADAPTERS": "tests.editors.*", "OMP_NUM_THREADS": "1"}
QUEUES = "cpu,gpu.edit,gpu.score"
BATCH = 4


def configure(folder: Path, pairs: int, *, poisonous: int) -> Path:
    """A run of squares, of which some kill whoever edits them."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "navy").save(out, "PNG")
    image = base64.b64encode(out.getvalue()).decode()
    given = [
        {"id": str(n), "image": image, "description": str(n), "instruction": "die" if n < poisonous else "invert"}
        for n in range(pairs)
    ]
    (folder / "benchmark.json").write_text(json.dumps({"categories": {"squares": given}}))
    parameters = {"trace": str(folder / "trace"), "delay_s": 0.03}
    path = folder / "run.yaml"
    path.write_text(json.dumps({
        "name": "storm", "benchmark": "benchmark.json", "batch": {"edit": BATCH, "score": BATCH, "job": 2 * BATCH},
        "editor": {"class": "tests.editors.Inverter", "parameters": parameters},
        "scorer": {"class": "tests.editors.Difference", "parameters": parameters},
    }))  # fmt: skip
    return path


def past(stage: str) -> int:
    """How many pairs are through a stage."""
    column = "edits" if stage == "edit" else "scores"
    with session() as opened:
        return int(opened.execute(text(f"SELECT count(*) FROM edit_pair WHERE {column} > 0")).scalar_one())


@pytest.mark.timeout(600)
def test_an_evaluation_that_is_killed_edits_and_scores_each_pair_once(
    quiet: Path, tmp_path: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    pairs, rounds, poisonous = (400, 3, 1) if full else (60, 1, 0)
    relay = start_relay(quiet, **ENV)
    worker = start_worker(quiet, name="edit", concurrency=1, queues=QUEUES, **ENV)
    kills = 0
    try:
        job = evaluate.submit(config=str(configure(tmp_path, pairs, poisonous=poisonous)))
        for stage in ("edit", "score"):
            for number in range(rounds):
                reached = pairs * (number + 1) // (rounds + 2)
                until(lambda stage=stage, reached=reached: past(stage) >= reached, within_s=180)
                if stage == "edit" or not full:  # a worker takes seconds to start
                    kill_a_process_of(worker)
                else:
                    worker.kill()
                    worker = start_worker(quiet, name="edit", concurrency=1, queues=QUEUES, **ENV)
                kills += 1
        result = job.get(timeout=300)
    finally:
        worker.kill()
        relay.kill()

    with session() as opened:
        rows = list(edit.pairs(opened, edit.run(opened, result["run"]).id))
    scored = [each for each in rows if each.state == "scored"]
    assert len(rows) == pairs
    assert len(scored) == pairs - poisonous
    assert {(each.edits, each.scores, each.score) for each in scored} == {(1, 1, scored[0].score)}
    assert [each.error for each in rows if each.state == "failed"] == [
        "its process died 2 times while this pair alone was in the edit stage"
    ] * poisonous
    assert row(job.id).state == "SUCCESS"
    again = done_again(tmp_path / "trace", poisonous)
    assert again <= kills * BATCH
    figure(21, f"{kills} kills (pool processes; in full workers too) of an evaluation of {pairs} pairs: each edited "
               f"and scored once, {again} pairs done again of at most {kills * BATCH} in hand"
               + f", {poisonous} that kills its process failed alone" * bool(poisonous))  # fmt: skip


def kill_a_process_of(worker: Process) -> None:
    """SIGKILL to the one that computes."""
    children = psutil.Process(worker.popen.pid).children()
    busiest = max(children, key=lambda each: each.memory_info().rss)
    os.kill(busiest.pid, signal.SIGKILL)


def done_again(trace: Path, poisonous: int) -> int:
    """How often a model was asked about a pair beyond the first time, the poisonous pairs' batch aside."""
    calls = Counter[tuple[str, str]]()
    for line in trace.read_text().splitlines():
        what, *asked = line.split()
        calls.update((what, each) for each in asked if int(each) >= poisonous * BATCH)
    return sum(count - 1 for count in calls.values())
