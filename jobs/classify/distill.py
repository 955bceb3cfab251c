"""The job that makes several students of one teacher, each beside its twin without one, and registers the best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from broker.context import ChildOutcome, Context
from broker.errors import JobError
from jobs.classify import tasks
from jobs.classify.tasks import Distill
from jobs.text import artifact, baseline, champion, data, students
from jobs.training.options import Acceleration
from jobs.training.publish import earlier, in_use, publish, result
from jobs.training.registered import find

_SOURCE = ("data", "text", "label", "split")
_HOW = ("alpha", "max_length", "epochs", "batch", "rate", "decay", "seed", "numbers", *Acceleration.model_fields)


def distill(ctx: Context, params: Distill) -> dict[str, Any]:
    if done := earlier(ctx):
        return result(done)
    name = params.teacher or f"teacher-{Path(params.data).resolve().name if '/' in params.data else params.data}"
    with ctx.session() as session:
        find(session, name)  # an unknown one is said before anything is started
    source = {each: getattr(params, each) for each in (*_SOURCE, "unlabelled")}
    asked = source | {"teacher": name, "ensemble": params.ensemble, "copies": params.copies, "seed": params.seed}
    (labelled,) = ctx.fan_out(tasks.label, [asked])
    if labelled.state != "SUCCESS":
        raise JobError(f"the teacher's logits are not there: {labelled.reason}")
    logits = labelled.result
    planned = plan(params, logits)
    outcomes = ctx.fan_out(tasks.train_student, planned)
    rows = table(planned, outcomes, logits["teacher"]["parameters"])
    able = [row for row in rows if row["labels"] != "gold" and row["dev"] is not None]
    if not able:
        first = next(each for each in outcomes if each.state != "SUCCESS")
        raise JobError(f"no student was trained, the first because: {first.reason}")
    best = max(able, key=lambda row: (row["dev"], -row["parameters"]))
    made = _publish(ctx, params, logits, best, outcomes[rows.index(best)])
    return {"best": best, "students": rows} | made


def plan(params: Distill, labelled: dict[str, Any]) -> list[dict[str, Any]]:
    """The students' parameters, from what classify.label gave: kinds x sizes x ways to learn.

    And for each kind and size the twin that learns from labels alone. All make the same epochs of as many rows, so that
    each sees as many texts in as many steps.
    """
    common = {each: getattr(params, each) for each in (*_SOURCE, "unlabelled", *_HOW)} | {"candidate": True}
    ways: list[dict[str, Any]] = [
        {"logits": labelled["logits"], "labels": labels, **({"temperature": warmth} if labels == "soft" else {})}
        for labels in dict.fromkeys(params.labels)
        for warmth in (dict.fromkeys(params.temperatures) if labels == "soft" else [None])
    ]
    start = {students.LAYERS: {"start": labelled["teacher"]["artifact"]}}
    shapes = [
        {"kind": kind, "size": size} | start.get(kind, {})
        for kind in dict.fromkeys(params.kinds)
        for size in dict.fromkeys(params.sizes)
    ]
    return [common | shape | way for shape in shapes for way in (*ways, {"rows": labelled["rows"]})]


def table(
    planned: Sequence[dict[str, Any]], outcomes: Sequence[ChildOutcome], teacher_parameters: int
) -> list[dict[str, Any]]:
    """A row for each student, in their order: what it is, how good, and how much better than its twin, in points."""
    alone = {
        (asked["kind"], asked["size"]): outcome.result["metrics"]["dev"]["accuracy"]
        for asked, outcome in zip(planned, outcomes, strict=True)
        if "logits" not in asked and outcome.state == "SUCCESS"
    }
    rows = []
    for asked, outcome in zip(planned, outcomes, strict=True):
        done = outcome.result if outcome.state == "SUCCESS" else None
        row = {"kind": asked["kind"], "size": asked["size"], "labels": asked["labels"] if "logits" in asked else "gold"}
        row["temperature"] = asked.get("temperature")
        dev = done["metrics"]["dev"]["accuracy"] if done else None
        row["dev"] = None if dev is None else round(dev, 4)
        twin = alone.get((asked["kind"], asked["size"])) if "logits" in asked else None
        row["gain_points"] = round(100 * (dev - twin), 2) if dev is not None and twin is not None else None
        row["parameters"] = done["parameters"] if done else None
        row["share"] = round(done["parameters"] / teacher_parameters, 4) if done else None
        row["examples"] = done["examples"] if done else None
        row["artifact"] = done["artifact"] if done else None
        row["error"] = None if done else outcome.reason
        rows.append(row)
    return rows


def _publish(
    ctx: Context, params: Distill, logits: dict[str, Any], best: dict[str, Any], outcome: ChildOutcome
) -> dict[str, Any]:
    dataset = data.asked(params)
    name = params.name or f"student-{dataset.name}"
    metrics = dict(outcome.result["metrics"])
    metrics["baseline"] = baseline.beside(dataset, params.seed)
    said = baseline.verdict(metrics["baseline"], metrics["dev"]["accuracy"], "student")
    metrics["distillation"] = {"gain_points": best["gain_points"], "share": best["share"], "teacher": logits["dev"]}
    teacher = {each: logits["teacher"][each] for each in ("name", "version", "artifact")}
    over = in_use(ctx, name)
    objection, other = champion.objection(ctx, over, dataset, metrics["dev"]) if over else (None, None)
    metrics |= {"in_use": other} if other else {}
    lineage = {"student_of": teacher, "ensemble": logits["ensemble"], "logits": logits["logits"]}
    lineage |= {"report": outcome.result["report"], "trained_by": str(outcome.id)}
    folder = ctx.store.fetch(best["artifact"])
    model = publish(ctx, folder, name, artifact.KIND, metrics, lineage=lineage, over=over, objection=objection)
    warnings = [*dataset.warnings, *([said] if said else []), *beside_its_twin(best)]
    if warnings:
        ctx.note(warnings=warnings)
    of = {"name": name, "teacher": logits["teacher"], "ensemble": logits["ensemble"]}
    return result(model) | of | {"warnings": warnings}


def beside_its_twin(best: dict[str, Any]) -> list[str]:
    """What is to be said where the teacher was of no use."""
    gain = best["gain_points"]
    if gain is None or gain > 0 or best["dev"] == 1:  # where both are perfect, dev cannot tell
        return []
    return [f"the student is no better than its twin without a teacher ({gain:+.1f} points on dev): train without one"]
