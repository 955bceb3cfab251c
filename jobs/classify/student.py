"""The job that trains one student, from a teacher's logits or without a teacher."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import structlog

from broker.context import Context
from broker.errors import JobError, summary
from db import registry
from db.store import ArtifactError
from jobs.classify.tasks import TrainStudent
from jobs.text import artifact, calibration, champion, data, learner, lesson, students
from jobs.text.data import Dataset
from jobs.text.distil import Distillation, Lesson
from jobs.text.network import Classifier
from jobs.training import engine, manifest, report
from jobs.training.device import resolve
from jobs.training.publish import earlier, in_use, publish, result
from jobs.training.task import Plan

log = structlog.get_logger()

# By measurement on 9,000 news titles with 38,816 more without labels. With Adam's usual beta2 of 0.999 an n-gram that
# comes once moves by about thirty times the rate, and the bag learns by heart what it should not: 82.1 against 85.2.
RECIPES: dict[str, dict[str, Any]] = {
    "ngrams": {"steps": 900, "batch": 256, "rate": 1e-2, "beta2": 0.95},
    "bilstm": {"steps": 740, "batch": 256, "rate": 4e-3, "beta2": 0.999},
    "ngrams+bilstm": {"steps": 740, "batch": 256, "rate": 4e-3, "beta2": 0.95},
    "transformer": {"steps": 3000, "batch": 64, "rate": 1e-3, "beta2": 0.999},
    "layers": {"steps": 3000, "batch": 32, "rate": 1e-4, "beta2": 0.999},
}
_EPOCHS = (3, 60)  # at least and at most, however many steps that is
_BATCHES = 64  # an epoch, at least: few texts make smaller batches


def train_student(ctx: Context, params: TrainStudent) -> dict[str, Any]:
    started = time.perf_counter()
    if done := earlier(ctx):
        return result(done)
    ctx.progress(0, 1, stage="read", message=params.data)
    task, taught_by = _task(ctx, params)
    how = plan(params, len(task.examples.lengths))

    fitted = engine.fit(task, how, params.settings(), resolve(ctx.device), ctx)

    ctx.progress(0, 2, stage="measure")
    calibrated = calibration.calibrate(task)
    metrics = task.measured() | {"calibration": calibrated}
    ctx.progress(1, 2, stage="store")
    taught = f"taught by {taught_by['name']}@{taught_by['version']}" if taught_by else "without a teacher"
    facts = {"metric": task.metric, "best_epoch": fitted.best_epoch, "taught": taught}
    kept = report.keep(ctx, fitted.record, f"{params.kind} student on {task.data.name}, {taught}", facts)
    teacher = {name: taught_by[name] for name in ("name", "version", "artifact")} if taught_by else None
    lineage = {"report": kept, "student_of": teacher, "logits": params.logits}
    name = params.name or f"student-{task.data.name}"
    with ctx.store.scratch() as folder:
        made = artifact.save_model(folder, task, fitted, how, metrics, student_of=teacher, calibration=calibrated)
        if params.candidate:
            stored = ctx.store.put(folder)
            with ctx.session() as session:
                registry.record(session, stored, artifact.KIND, ctx.job_id)
            said: dict[str, Any] = {"artifact": stored.digest, "report": kept, "metrics": metrics}
        else:
            over = in_use(ctx, name)
            against, other = champion.objection(ctx, over, task.data, metrics["dev"]) if over else (None, None)
            metrics |= {"in_use": other} if other else {}
            model = publish(ctx, folder, name, artifact.KIND, metrics, lineage=lineage, over=over, objection=against)
            said = result(model) | {"name": name}
    return said | {
        "architecture": task.name,
        "parameters": made["parameters"],
        "teacher": taught_by,
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "examples": len(task.examples.lengths) * len(fitted.history),  # visits: what equal compute is about
        "warnings": list(task.data.warnings),
        "seconds": round(time.perf_counter() - started, 3),
    }


def _task(ctx: Context, params: TrainStudent) -> tuple[Distillation, dict[str, Any] | None]:
    """The task, and the teacher with its number of parameters. What is wrong is wrong for good."""
    try:
        dataset = data.asked(params)
        texts = lesson.gather(dataset, params.unlabelled, 0, params.seed)
        student, reading = _student(ctx, params, dataset, texts.plain)
        found, teacher = _lesson(ctx, params, dataset) if params.logits else (None, None)
        if teacher and student.parameters >= teacher["parameters"]:
            sizes = f"the student has {student.parameters:,} parameters, its teacher {teacher['parameters']:,}"
            raise JobError(f"{sizes}: give the size small, or smaller numbers")
        task = Distillation(
            dataset, student, found, labels=params.labels, temperature=params.temperature, alpha=params.alpha,
            rows=params.rows, **reading,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise JobError(str(error)) from None
    return task, teacher


def _student(
    ctx: Context, params: TrainStudent, dataset: Dataset, texts: Sequence[str]
) -> tuple[students.Student, dict[str, Any]]:
    """The network, and how it reads texts. Raises ValueError for numbers that it cannot have."""
    if params.kind != students.LAYERS:
        made = students.make(params.kind, params.size, params.numbers, texts, len(dataset.classes), params.seed)
        return made, {"max_length": params.max_length}
    if params.start is None:
        raise ValueError("kind='layers' begins with a teacher's: give its artifact as start, or use classify.distill")
    try:
        teacher = artifact.load_model(ctx.store.fetch(params.start))
    except ArtifactError as error:
        raise ValueError(f"start {params.start!r}: {error}") from None
    if not isinstance(teacher.model, Classifier) or teacher.classes != dataset.classes:
        raise ValueError(f"start {params.start!r} is no transformer that knows the classes of {dataset.name}")
    made = students.first_layers(params.size, params.numbers, teacher.model, teacher.tokenizer)
    asked = teacher.manifest["reading"]
    return made, {"max_length": min(params.max_length, asked["max_length"]), "prefix": asked["prefix"]}


def _lesson(ctx: Context, params: TrainStudent, dataset: Dataset) -> tuple[Lesson, dict[str, Any]]:
    assert params.logits is not None  # for the type checker
    try:
        folder = ctx.store.fetch(params.logits)
        facts = manifest.read(folder)
        texts = lesson.gather(dataset, params.unlabelled, facts["copies"], facts["seed"])
        return lesson.read(folder, texts, params.logits), facts["teacher"]
    except (ArtifactError, OSError, KeyError) as error:
        said = summary(error)
        raise JobError(f"logits {params.logits!r}: {said}: give what classify.label gave") from None


def plan(params: TrainStudent, rows: int) -> Plan:
    """`rows`: texts an epoch, by which the epochs are chosen, so that few texts are not seen too seldom."""
    recipe = RECIPES[params.kind]
    batch = params.batch or max(8, min(recipe["batch"], rows // _BATCHES))
    least, most = _EPOCHS
    return Plan(
        epochs=params.epochs or max(least, min(most, math.ceil(recipe["steps"] / math.ceil(rows / batch)))),
        patience=params.patience,
        batch=batch,
        rate=params.rate or recipe["rate"],
        decay=params.decay,
        betas=(0.9, recipe["beta2"]),
        seed=params.seed,
        perfect=learner.PERFECT,
    )
