"""The job that trains a teacher, measures it, stores it and lets it into use if it is no worse on dev."""

from __future__ import annotations

import time
from typing import Any

import structlog

from broker.context import Context
from broker.errors import JobError
from jobs.classify.tasks import TrainTeacher
from jobs.text import artifact, baseline, champion, data, encoder, learner
from jobs.text.teacher import Teacher
from jobs.training import engine, report
from jobs.training.confusion import Confusion
from jobs.training.device import resolve
from jobs.training.publish import earlier, in_use, publish, result
from jobs.training.task import Plan

log = structlog.get_logger()


def train_teacher(ctx: Context, params: TrainTeacher) -> dict[str, Any]:
    started = time.perf_counter()
    if done := earlier(ctx):
        return result(done)
    ctx.progress(0, 1, stage="read", message=params.data)
    task, warnings = _task(params)
    plan = _plan(params, task)
    if warnings:
        log.warning("training_data", warnings=warnings)
        ctx.note(warnings=warnings)

    fitted = engine.fit(task, plan, params.settings(), resolve(ctx.device), ctx)

    ctx.progress(0, 3, stage="measure")
    metrics = task.measured()
    ctx.progress(1, 3, stage="baseline")
    began = time.perf_counter()
    metrics["baseline"] = baseline.beside(task.data, params.seed)
    baseline_s = round(time.perf_counter() - began, 3)
    if said := baseline.verdict(metrics["baseline"], metrics["dev"]["accuracy"]):
        log.warning("teacher_and_baseline", said=said)
        warnings.append(said)
        ctx.note(warnings=warnings)
    name = params.name or f"teacher-{task.data.name}"
    over = in_use(ctx, name)
    objection, other = champion.objection(ctx, over, task.data, metrics["dev"]) if over else (None, None)
    metrics |= {"in_use": other} if other else {}
    ctx.progress(2, 3, stage="store")
    facts = {"metric": task.metric, "best_epoch": fitted.best_epoch, "encoder": task.encoder.name}
    facts |= {
        "baseline_on_dev": metrics["baseline"].get("dev", "failed"),
        "baseline": baseline.NAME,
        "baseline_seconds": baseline_s,
    }
    table = Confusion(metrics["dev"]["confusion"], task.data.classes, "dev")
    lineage = {"report": report.keep(ctx, fitted.record, f"{task.encoder.name} on {task.data.name}", facts, table)}
    with ctx.store.scratch() as folder:
        artifact.save_model(folder, task, fitted, plan, metrics, encoder=task.encoder.name)
        model = publish(ctx, folder, name, artifact.KIND, metrics, lineage=lineage, over=over, objection=objection)
    return result(model) | {
        "name": name,
        "encoder": task.encoder.name,
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "warnings": warnings,
        "baseline_seconds": baseline_s,
        "device": str(task.model.head.weight.device),
        "seconds": round(time.perf_counter() - started, 3),
    }


def _task(params: TrainTeacher) -> tuple[Teacher, list[str]]:
    """The task with its texts as tokens, and what is to be said of them. What is wrong is wrong for good."""
    try:
        dataset = data.asked(params)
        found = encoder.load(params.encoder, dataset.train.texts, params.seed)
        task = Teacher(
            dataset,
            found,
            freeze=params.freeze,
            layer_decay=params.layer_decay,
            max_length=params.max_length,
            dropout=params.dropout,
            prefix=params.prefix,
            seed=params.seed,
        )
    except ValueError as error:  # DataError is one
        raise JobError(str(error)) from None
    warnings = [*dataset.warnings, *found.warnings]
    if cut := task.train.cut:
        share = f"{cut:,} of the {len(dataset.train):,} texts of train"
        warnings.append(f"{share} are longer than max_length={task.max_length} tokens: their ends are not read")
    return task, warnings


def _plan(params: TrainTeacher, task: Teacher) -> Plan:
    narrow = task.encoder.model.config.hidden_size < 512
    rate, epochs = (1e-4 if narrow else 3e-5, 4) if task.encoder.pretrained else (1e-3, 10)
    return Plan(
        epochs=params.epochs or epochs,
        patience=params.patience,
        batch=params.batch,
        rate=params.rate or rate,
        decay=params.decay,
        seed=params.seed,
        perfect=learner.PERFECT,
    )
