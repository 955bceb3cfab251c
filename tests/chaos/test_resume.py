"""Promise 16: a training that is killed again and again redoes what no checkpoint holds, and ends the same."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from db.settings import settings
from db.store import ArtifactStore
from jobs.classify.tasks import label
from jobs.recommend.artifact import load_model
from tests.chaos.training_jobs import SAVED, train, train_student, train_teacher
from tests.processes import Process, start_relay, start_worker
from tests.rows import starts
from tests.unit.text import tiny

pytestmark = pytest.mark.timeout(1800)
# The sums of two threads depend on how they meet.
ENV = {"GRISTMILL_JOBS": "tests.jobs,tests.chaos.training_jobs", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Step(NamedTuple):
    attempt: int
    pid: int
    number: int  # or SAVED


@pytest.fixture
def worker(quiet: Path) -> Iterator[Process]:
    relay = start_relay(quiet, **ENV)
    process = start_worker(quiet, concurrency=1, **ENV)
    yield process
    process.stop()
    relay.stop()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Users who walk 300 items in circles."""
    drawn, lines = np.random.default_rng(0), ["user,item,timestamp"]
    for user in range(300):
        start, length = int(drawn.integers(0, 300)), int(drawn.integers(10, 80))
        lines += [f"u{user},i{(start + step) % 300},{step}" for step in range(length)]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def steps(trace: Path) -> list[Step]:
    if not trace.exists():
        return []
    return [Step(*map(int, line.split())) for line in trace.read_text().splitlines() if line.count(" ") == 2]


def kill_once(trace: Path, attempt: int, after: int, pause_s: float) -> None:
    """SIGKILL to the process of this attempt, so long after it has made so many steps."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        made = [step for step in steps(trace) if step.attempt == attempt and step.number != SAVED]
        if len(made) >= after:
            time.sleep(pause_s)
            os.kill(made[-1].pid, signal.SIGKILL)
            return
        time.sleep(0.005)
    raise AssertionError(f"attempt {attempt} never came so far: {Counter(steps(trace))}")


def weights(result: dict[str, Any]) -> str:
    """The digest of the trained weights."""
    store = ArtifactStore(settings().artifacts(), settings().home)
    return str(load_model(store.fetch(result["artifact"])).manifest["files"]["model.safetensors"])


@pytest.mark.parametrize("seed", [1])
def test_a_training_that_is_killed_again_and_again_ends_as_an_undisturbed_one(
    worker: Process, data: Path, tmp_path: Path, seed: int, full: bool, figure: Callable[[int, str], None]
) -> None:
    kills, drawn = 10 if full else 4, random.Random(seed)
    # A checkpoint every so often within an epoch, but no more than a twentieth of the time for them.
    options = {"epochs": kills + 2, "patience": kills + 2, "seed": seed, "acceleration": "off", "checkpoint_s": 0.2}
    options |= {"data": "ml-100k"} if full else {"data": str(data), "dim": 32, "batch": 8}
    undisturbed = train.submit(**options, trace=str(tmp_path / "undisturbed")).get(timeout=900)
    number = max(step.number for step in steps(tmp_path / "undisturbed"))
    epoch = number // options["epochs"]

    trace = tmp_path / "killed"
    job = train.submit(**options, trace=str(trace))
    # Anywhere in two thirds of an epoch; every second time behind its last step, where validation and checkpoint are.
    moments = [(drawn.randint(1, epoch * 2 // 3) if n % 2 else epoch, drawn.uniform(0, 0.2)) for n in range(kills)]
    for attempt, (after, pause_s) in enumerate(moments, start=1):
        kill_once(trace, attempt, after, pause_s)
    result = job.get(timeout=900)

    assert starts(job.id) == kills + 1
    made = steps(trace)
    redone = [again(made, attempt) for attempt in range(1, kills + 1)]
    unsaved = [since_checkpoint(made, attempt) for attempt in range(1, kills + 1)]
    # A kill between a checkpoint and its line in the trace leaves less to do again than the trace supposes.
    assert all(0 <= more <= lost for more, lost in zip(redone, unsaved, strict=True)), (seed, moments, redone, unsaved)
    assert max(redone) <= epoch
    assert len([step for step in made if step.number != SAVED]) == number + sum(redone)
    for name in ("validation", "test"):
        assert result["metrics"][name] == undisturbed["metrics"][name]
    assert (result["epochs"], result["best_epoch"]) == (undisturbed["epochs"], undisturbed["best_epoch"])
    assert weights(result) == weights(undisturbed)
    figure(16, f"{kills} kills of a training of {number} steps in {options['epochs']} epochs: {sum(redone)} steps "
               f"redone, those since the last checkpoint, at most {max(redone)} a kill ({max(redone) / epoch:.2f} of "
               "an epoch); weights and metrics are those of the undisturbed run")  # fmt: skip


def test_a_teacher_and_a_distillation_that_are_killed_end_as_undisturbed_ones(
    worker: Process, tmp_path: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    kills, drawn = 3 if full else 1, random.Random(1)
    folder = tiny.write_folder(tmp_path / "words", train=400, dev=100)
    (folder / "unlabelled.txt").write_text("\n".join(text for text, _ in tiny.rows(200, 9)))
    common = {"data": str(folder), "epochs": kills + 1, "batch": 8, "acceleration": "off", "checkpoint_s": 0.2}
    teacher = common | {"encoder": "scratch", "max_length": 32, "patience": kills + 1, "name": "undisturbed"}
    taught = train_teacher.submit(**teacher, trace=str(tmp_path / "teacher")).get(timeout=600)
    logits = label.apply_async(kwargs={"data": str(folder), "teacher": "undisturbed"}, queue="cpu").get(timeout=600)[
        "logits"
    ]
    student = common | {"logits": logits, "kind": "bilstm", "size": "small", "candidate": True}
    studied = train_student.submit(**student, trace=str(tmp_path / "student")).get(timeout=600)

    trainings = [(train_student, student, studied), (train_teacher, teacher, taught)]
    for job, params, undisturbed in trainings if full else trainings[:1]:  # each kill costs seconds of imports
        trace = tmp_path / f"{job.name}, killed"
        epoch = max(step.number for step in steps(tmp_path / job.name.rpartition("_")[2])) // (kills + 1)
        killed = job.submit(**params | {"name": "killed"}, trace=str(trace))
        for attempt in range(1, kills + 1):
            kill_once(trace, attempt, drawn.randint(1, epoch * 2 // 3), drawn.uniform(0, 0.1))
        result = killed.get(timeout=600)

        assert starts(killed.id) == kills + 1
        assert result["metrics"]["dev"] == undisturbed["metrics"]["dev"]
        assert (result["epochs"], result["best_epoch"]) == (undisturbed["epochs"], undisturbed["best_epoch"])
        redone = [again(steps(trace), attempt) for attempt in range(1, kills + 1)]
        assert max(redone) <= epoch
        figure(16, f"{job.name.rpartition('_')[2]}: {kills} kills of {epoch * (kills + 1)} steps, {sum(redone)} "
                   "redone; the metrics are those of the undisturbed run")  # fmt: skip


def again(made: list[Step], attempt: int) -> int:
    """How many of an attempt's steps the next one had to make again."""
    first = next(step.number for step in made if step.attempt == attempt + 1 and step.number != SAVED)
    return max(step.number for step in made if step.attempt == attempt) - first + 1


def since_checkpoint(made: list[Step], attempt: int) -> int:
    """How many steps an attempt had made since it had last told of a checkpoint."""
    numbers = [step.number for step in made if step.attempt == attempt]
    return len(numbers) - 1 - max((place for place, number in enumerate(numbers) if number == SAVED), default=-1)
