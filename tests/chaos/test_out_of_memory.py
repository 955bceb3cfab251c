"""Out of memory on a device is no failure: the batch is halved, the job goes on, its row says so, the next one knows.

On a real worker, with torch.OutOfMemoryError from a pretended device's allocator, and with the machine's own.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from db.engine import session
from db.recommend import RecommendationCache
from jobs.recommend.tasks import import_data, pretrain_batch, train
from tests.chaos import training_jobs
from tests.integration.recommend.running import run
from tests.processes import ROOT, Process, start_worker
from tests.rows import row

pytestmark = pytest.mark.timeout(600)
USERS = [f"u{n}" for n in range(200)]


@pytest.fixture
def worker(quiet: Path) -> Iterator[Process]:
    process = start_worker(
        quiet, concurrency=1, queues="cpu.small", GRISTMILL_JOBS="tests.jobs,tests.chaos.training_jobs",
        GRISTMILL_RECOMMEND_ENGINE="torch",  # others are tried after two seconds of work, which a busy machine takes
    )  # fmt: skip
    yield process
    process.stop()


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Users who walk 60 items in circles."""
    lines = ["user,item,timestamp"]
    for number, user in enumerate(USERS):
        lines += [f"{user},i{(7 * number + step) % 60},{step}" for step in range(5 + number % 30)]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def squeezed(kind: str, limit_bytes: int, **params: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result of a job on a device of so many bytes, and what its row notes of its batches."""
    asked = {"kind": kind, "params": params, "limit_bytes": limit_bytes}
    job = training_jobs.squeezed.apply_async(kwargs=asked, queue="cpu.small")
    result = job.get(timeout=120)
    shown = subprocess.run([sys.executable, "-m", "workers", "show", job.id], cwd=ROOT, capture_output=True, text=True)
    notes = row(job.id).notes or {}
    for name in notes:
        assert name.startswith("batch of sasrec-")
        assert name in shown.stdout
    return result, list(notes.values())


def lists() -> dict[str, Any]:
    with session() as opened:
        return {each.username: each.items for each in opened.scalars(select(RecommendationCache))}


def test_users_are_computed_in_little_memory_and_the_next_job_begins_with_what_fitted(
    worker: Process, events: Path
) -> None:
    run(import_data, data=str(events))
    run(train, data="database", preset="quick")
    run(pretrain_batch, usernames=USERS, force=True)
    undisturbed = lists()
    ample, notes = squeezed("recommend.pretrain_batch", 10**12, usernames=USERS, force=True)
    assert (ample["refused"], notes) == (0, [])

    first, noted = squeezed("recommend.pretrain_batch", ample["peak"] // 10, usernames=USERS, force=True)

    assert first["refused"] >= 3
    assert first["result"]["computed"] == len(USERS)
    assert lists() == undisturbed
    (facts,) = noted
    assert facts["asked"] == 512
    assert facts["fits"] <= len(USERS) // 8
    assert not facts["remembered"]

    second, noted = squeezed("recommend.pretrain_batch", ample["peak"] // 10, usernames=USERS, force=True)

    assert second["refused"] == 0
    assert lists() == undisturbed
    assert noted == [{**facts, "asked": len(USERS), "remembered": True}]


def test_a_training_keeps_its_batch_in_parts_that_fit(worker: Process, events: Path) -> None:
    asked = {"data": str(events), "preset": "quick", "epochs": 1, "batch": 64, "acceleration": "off"}
    ample, _ = squeezed("recommend.train", 10**12, **asked)

    first, noted = squeezed("recommend.train", ample["peak"] // 3, **asked)
    second, remembered = squeezed("recommend.train", ample["peak"] // 3, **asked)

    assert first["refused"] >= 2
    assert second["refused"] == 0
    assert min(facts["fits"] for facts in noted) <= 64 // 4
    assert [facts["fits"] for facts in remembered] == [facts["fits"] for facts in noted]
    for result in (first, second):
        metrics = result["result"]["metrics"]["validation"]
        assert metrics["mrr"] == pytest.approx(ample["result"]["metrics"]["validation"]["mrr"], abs=0.05)


def test_what_the_machine_itself_refuses_is_halved_and_remembered(worker: Process) -> None:
    first, second = (
        training_jobs.confined.apply_async(kwargs={"items": 32, "gigabytes": 8}, queue="cpu.small") for _ in range(2)
    )

    assert first.get(timeout=120) == {"done": 32, "tried": [32, 16, 8, *[4] * 8]}
    assert second.get(timeout=120) == {"done": 32, "tried": [4] * 8}
    facts = {"asked": 32, "fits": 4, "device": "cpu, 8.0 GB"}
    assert row(first.id).notes == {"batch of gigabytes": {**facts, "remembered": False}}
    assert row(second.id).notes == {"batch of gigabytes": {**facts, "remembered": True}}
    with session() as opened:
        found = opened.execute(text("SELECT model, device, batch FROM batch_limit")).all()
    assert [tuple(each) for each in found] == [("gigabytes", "cpu, 8.0 GB", 4)]
