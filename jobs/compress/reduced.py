"""From a network to one with less in it: cut, recover, judge, time, and store the first that is right enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from broker.context import Context
from jobs.compress import measure, recovery
from jobs.compress.candidates import by_torch
from jobs.compress.gate import Gate, Verdict
from jobs.compress.origin import Origin, register
from jobs.compress.recovery import Recovery
from jobs.compress.tasks import Recovered
from jobs.compress.unstructured import sparsity
from jobs.text import artifact, calibration, infer, runtime
from jobs.text.distil import Lesson
from jobs.text.network import Classifier
from jobs.text.teacher import sizes
from jobs.text.tokens import Tokens
from jobs.training import report
from jobs.training.device import resolve
from jobs.training.engine import Fitted
from jobs.training.memory import Batcher
from jobs.training.record import Record
from jobs.training.task import Plan

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Reduced:
    """One way to have less."""

    said: str
    make: Callable[[], tuple[nn.Module, dict[str, Any]]]  # a copy that is cut, and what a manifest says of it
    finish: Callable[[nn.Module], None] = lambda model: None  # after the recovery, in place


@dataclass(frozen=True)
class _Tried:
    task: Recovery
    fitted: Fitted
    plan: Plan
    verdict: Verdict
    facts: dict[str, Any]


def reduce(
    ctx: Context, params: Recovered, source: Origin, attempts: Sequence[Reduced], how: str, gradual: float | None = None
) -> dict[str, Any]:
    """Tries them in their order until one passes; of none that does, the one that lost least is kept, out of use.

    `how`: "pruned" or "lowrank", the result's suffix. gradual: the share of zeros that the recovery grows to.
    """
    gate, device, dev = Gate(params.tolerance, agreement=0.0), resolve(ctx.device), source.data.dev
    ctx.progress(0, len(attempts), stage="before")
    on_dev = source.loaded.tokens(dev)
    before = _logits(source.loaded.model, on_dev)

    def judge(model: nn.Module) -> Verdict:
        return gate.judge(_logits(model.eval(), on_dev), before, dev.labels)

    lesson: Lesson | None = None
    tried: list[_Tried] = []
    for number, attempt in enumerate(attempts):
        ctx.progress(number, len(attempts), stage="cut", message=attempt.said)
        model, facts = attempt.make()
        without = judge(model).accuracy
        if params.recovery_s:
            rows = recovery.affordable(source.loaded, model, source.data, params.recovery_s, device)
            lesson = lesson or _lesson(ctx, source, rows)
            tell = lambda number=number, said=attempt.said: ctx.progress(  # noqa: E731
                number, len(attempts), stage="recover", message=said
            )
            task, fitted, plan = recovery.recover(
                source.loaded, source.data, model, lesson, rows, params.settings(), device,
                rate=params.rate, seed=params.seed, gradual=gradual, how=how, tell=tell,
            )  # fmt: skip
            model.cpu()
        else:
            network = source.loaded.manifest.get("network", {"kind": "transformer"})
            task = Recovery(source.loaded, source.data, model, None, network, how=how)
            fitted, plan = Fitted(model, [], 0, Record()), Plan(seed=params.seed)
        attempt.finish(model)
        verdict = judge(model)
        spent = round(fitted.record.seconds, 1)
        found = {"cut": attempt.said, **facts, "accuracy_without_recovery": without, "recovery_s": spent}
        tried.append(_Tried(task, fitted, plan, verdict, found))
        if verdict.reason is None:
            break
    best = min(tried, key=lambda each: (each.verdict.reason is not None, each.verdict.drop_points))
    return _store(ctx, params, source, best, tried, how)


def _store(
    ctx: Context, params: Recovered, source: Origin, best: _Tried, tried: Sequence[_Tried], how: str
) -> dict[str, Any]:
    ctx.progress(0, 2, stage="measure")
    model, task = best.task.model, best.task
    if isinstance(model, Classifier):
        task.network = sizes(model.upper) | {name: best.facts[name] for name in ("heads", "ffn") if name in best.facts}
    compression = best.facts | {
        "drop_points": round(best.verdict.drop_points, 3),
        "agreement": round(best.verdict.agreement, 4),
        "sparsity": round(sparsity(model), 4),
        "parameters_ratio": round(_count(model) / _count(source.loaded.model), 4),
        **speed(source, model),
    }
    calibrated = calibration.calibrate(task)
    metrics: dict[str, Any] = task.measured() | {"compression": compression, "calibration": calibrated}
    table = [each.facts | {"accuracy": each.verdict.accuracy, "refused": each.verdict.reason} for each in tried]
    ctx.progress(1, 2, stage="store")
    made_of = f"{how}_from"
    kept = report.keep(ctx, best.fitted.record, f"{source.name}, {how}", compression) if best.fitted.history else None
    with ctx.store.scratch() as folder:
        further = {made_of: source.json(), "cuts": table, "calibration": calibrated}
        artifact.save_model(folder, task, best.fitted, best.plan, metrics, **further)
        name = params.name or f"{source.name}-{how}"
        made = register(
            ctx, folder, name, source, made_of, metrics,
            tolerance=params.tolerance, objection=best.verdict.reason, report=kept,
        )  # fmt: skip
    return made | {"compression": compression, "cuts": table}


def speed(source: Origin, model: nn.Module, most_s: float = 10) -> dict[str, float]:
    """How many times faster than the network it is, both by torch on the CPU: what it really saves."""
    reader = runtime.Reader.of(source.loaded.tokenizer, source.loaded.manifest["reading"])
    rows = reader.rows(source.data.dev.texts[:256]).ids
    forwards = {"before": by_torch(source.loaded.model), "after": by_torch(model)}
    one = measure.single(forwards, rows, reader.pad, most_s=most_s)["after"]
    many = measure.batched(forwards, rows, reader.pad, most_s=most_s)["after"]
    return {"speedup_b1": round(one.speedup, 3), "speedup_b32": round(many.speedup, 3), "p50_ms": round(one.p50_ms, 3)}


def _lesson(ctx: Context, source: Origin, rows: int) -> Lesson:
    began = time.perf_counter()
    ctx.progress(0, 1, stage="ask", message="the network before the cut, about texts")
    found = recovery.lesson(source.loaded, source.data, rows)
    ctx.note(asked={"texts": len(found.texts), "seconds": round(time.perf_counter() - began, 1)})
    return found


def _logits(model: nn.Module, tokens: Tokens) -> Array:
    device = next(model.parameters()).device
    return infer.logits(model, tokens, Batcher("the network, inference", device))


def _count(model: nn.Module) -> int:
    return sum(each.numel() for each in model.parameters())
