"""Trainings inside a real worker, whose pool processes are daemonic: helpers, loader threads, cancelling."""

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from db.settings import settings
from db.store import ArtifactStore
from jobs.recommend.tasks import train
from tests.chaos.servers import until
from tests.processes import Process
from tests.rows import row


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Users who walk 40 items in circles."""
    lines = [f"u{user},i{(user + step) % 40},{step}" for user in range(60) for step in range(5 + user % 20)]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["user,item,timestamp", *lines]) + "\n")
    return path


def enqueue(**params: Any) -> AsyncResult:
    return train.apply_async(kwargs=params, queue="cpu")


def helpers(worker: Process) -> list[psutil.Process]:
    """The processes that train along beside the worker's own."""
    return [each for each in psutil.Process(worker.popen.pid).children(recursive=True) if _helps(each)]


def _helps(process: psutil.Process) -> bool:
    try:
        return "jobs.training.parallel" in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False


def test_two_processes_and_loader_threads_work_in_a_pool_process(worker: Process, events: Path) -> None:
    options = {"acceleration": "off", "preset": "quick", "loader": 1}
    alone = enqueue(data=str(events), **options).get(timeout=120)
    together = enqueue(data=str(events), processes=2, **options).get(timeout=120)

    store = ArtifactStore(settings().artifacts(), settings().home)
    one, two = (json.loads((store.fetch(done["report"]) / "report.json").read_text()) for done in (alone, together))
    assert two["options"]["processes"] == 2
    assert two["epochs"][-1]["loss"] == pytest.approx(one["epochs"][-1]["loss"], rel=0.05)  # dropout draws otherwise


def test_helpers_end_with_the_job_that_is_cancelled(worker: Process, events: Path) -> None:
    job = enqueue(data=str(events), acceleration="off", epochs=500, patience=500, processes=2)
    until(lambda: row(job.id).progress and row(job.id).progress["stage"] == "train" and helpers(worker))

    job.revoke(terminate=True)

    with pytest.raises(TaskRevokedError):
        job.get(timeout=60)
    until(lambda: not helpers(worker))
