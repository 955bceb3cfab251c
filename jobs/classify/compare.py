"""The job that puts the classifiers of a data set side by side, each measured on the same texts in one run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from broker.context import Context
from broker.errors import JobError
from db.store import ArtifactError
from jobs.classify import timing
from jobs.classify.candidates import Candidate, choose
from jobs.classify.page import Comparison
from jobs.classify.tasks import Compare
from jobs.classify.timing import Answer
from jobs.classify.verdict import Entry, front, mcnemar, recommend, wilson
from jobs.text import baseline, footprint, machine
from jobs.text.data import Dataset, Split
from jobs.text.metrics import confusion, macro_f1, measure
from jobs.text.models import TextModel, open_model
from jobs.training.publish import keep_report
from jobs.training.registered import ancestry

log = structlog.get_logger()
Array = np.ndarray[Any, Any]

KIND = "comparison"
_AT_ONCE = 1024  # texts between two looks at whether the job was cancelled
_TIMED = 256  # texts among which those to time are


@dataclass(frozen=True)
class Opened:
    """A candidate that can be measured."""

    candidate: Candidate
    folder: Path
    model: TextModel


def compare(ctx: Context, params: Compare) -> dict[str, Any]:
    started = time.perf_counter()
    ctx.progress(0, 5, stage="read", message=params.data or "")
    candidates, dataset = choose(ctx, params)
    split = dataset.splits().get(params.on)
    if split is None:
        raise JobError(f"{dataset.name} has no split {params.on!r}: compare on dev")
    opened, left_out = _open(ctx, candidates, dataset)
    if not opened:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise JobError(f"no model can be compared on {dataset.name} ({reasons})")
    comparison = _measured(ctx, params, opened, dataset, split, left_out)
    ctx.progress(4, 5, stage="store")
    with ctx.store.scratch() as folder:
        comparison.write(folder)
        digest = keep_report(ctx, folder, KIND, comparison.title)
    return {
        "report": digest,
        "data": dataset.name,
        "on": params.on,
        "recommendation": list(comparison.recommendation),
        "models": [_short(entry) for entry in comparison.entries],
        "left_out": left_out,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _open(ctx: Context, candidates: Sequence[Candidate], dataset: Dataset) -> tuple[list[Opened], dict[str, str]]:
    opened, left_out = [], {}
    for each in candidates:
        ctx.progress(0, 5, stage="load", message=each.label)
        try:
            folder = ctx.store.fetch(each.digest)
            model = open_model(folder)
        except (ArtifactError, ValueError) as error:
            left_out[each.label] = str(error)
            continue
        if model.classes == dataset.classes:
            opened.append(Opened(each, folder, model))
        else:
            left_out[each.label] = f"it knows other classes than {dataset.name}"
    if left_out:
        log.warning("models_left_out", models=left_out)
    return opened, left_out


def _measured(
    ctx: Context, params: Compare, opened: Sequence[Opened], dataset: Dataset, split: Split, left_out: dict[str, str]
) -> Comparison:
    logits: dict[str, Array] = {}
    for number, each in enumerate(opened):
        tell = partial(ctx.progress, number, len(opened), stage="accuracy", message=each.candidate.label)
        logits[each.candidate.label] = _logits(each.model, split.texts, tell)
    ctx.progress(1, 5, stage="baseline")
    linear = _baseline(dataset, params.seed)
    sample = split.texts[:: max(1, len(split) // _TIMED)]
    answers: dict[str, Answer] = {each.candidate.label: each.model.logits for each in opened}
    if linear is not None:
        answers["baseline"] = linear.predict
    tell = partial(ctx.progress, 2, 5, stage="time", message=f"{len(answers)} models in turns")
    speeds = timing.measure(answers, sample, params.timing_s, tell)

    predicted = {name: found.argmax(axis=1) for name, found in logits.items()}
    if linear is not None:
        predicted["baseline"] = linear.predict(split.texts)
    right = {name: int((found == split.labels).sum()) for name, found in predicted.items()}
    best = max((each.candidate.label for each in opened), key=lambda name: (right[name], -speeds[name].p50_ms))

    def entry(name: str, **facts: Any) -> Entry:
        own, first = predicted[name] == split.labels, predicted[best] == split.labels
        low, high = wilson(right[name], len(split))
        table = confusion(predicted[name], split.labels, len(dataset.classes))
        speed = speeds[name]
        return Entry(
            model=name, texts=len(split), accuracy=right[name] / len(split), low=low, high=high,
            macro_f1=macro_f1(table), p50_ms=speed.p50_ms, p99_ms=speed.p99_ms, texts_per_s=speed.texts_per_s,
            agreement=float((predicted[name] == predicted[best]).mean()),
            p_value=None if name == best else mcnemar(int((first & ~own).sum()), int((own & ~first).sum())),
            recalls=_recalls(table), **facts,
        )  # fmt: skip

    entries = []
    for number, each in enumerate(opened):
        ctx.progress(number, len(opened), stage="weigh", message=each.candidate.label)
        ece = measure(logits[each.candidate.label], split.labels)["ece"]
        entries.append(entry(each.candidate.label, ece=ece, **_weighed(each, split, params.memory)))
    entries = [replace(each, pareto=on) for each, on in zip(entries, front(entries), strict=True)]
    entries.sort(key=lambda each: (-each.accuracy, each.p50_ms))
    beside = None
    if linear is not None:
        beside = entry("baseline", ece=None, **_NOTHING, role="baseline", architecture=baseline.NAME)
    facts = {
        "data": f"{dataset.name}, {len(split):,} texts of {params.on}, {len(dataset.classes)} classes",
        "machine": f"{machine.name(machine.describe())}, {machine.describe()['cores']} cores",
        "sha256": dataset.fingerprint(),
    }
    title = f"{len(entries)} classifiers of {dataset.name}"
    shown = [*entries, beside] if beside else entries
    return Comparison(title, shown, dataset.classes, recommend(entries, beside), left_out, facts)


def _logits(model: TextModel, texts: Sequence[str], tell: Any) -> Array:
    found = []
    for begin in range(0, len(texts), _AT_ONCE):
        tell()
        found.append(model.logits(texts[begin : begin + _AT_ONCE]))
    return np.concatenate(found)


def _baseline(dataset: Dataset, seed: int) -> baseline.Baseline | None:
    try:
        return baseline.fit(dataset.train.texts, dataset.train.labels, len(dataset.classes), seed)
    except (ValueError, MemoryError) as error:  # the others can be compared without it
        log.warning("baseline_failed", reason=str(error))
        return None


def _weighed(each: Opened, split: Split, with_memory: bool) -> dict[str, Any]:
    facts, candidate = each.candidate.manifest, each.candidate
    resident = footprint.memory(each.folder) if with_memory else None
    return {
        "role": facts.get("role", "teacher"),
        "form": f"{facts.get('form', 'torch')} {facts.get('precision', '')}".strip(),
        "architecture": facts.get("architecture", "not known"),
        "lineage": ancestry(candidate.lineage),
        "disk_mb": footprint.disk_mb(each.folder),
        "memory_mb": resident and resident["mb"],
        "first_answer_s": resident and resident["s"],
        "parameters": facts.get("parameters"),
        "sparsity": footprint.sparsity(each.folder),
        "flops": footprint.flops(each.folder, footprint.tokens(each.folder, split.texts)),
        "in_use": candidate.in_use,
    }


_NOTHING: Mapping[str, Any] = {
    "form": "scikit-learn", "lineage": "", "disk_mb": None, "memory_mb": None, "first_answer_s": None,
    "parameters": None, "sparsity": None, "flops": None,
}  # fmt: skip


def _recalls(table: Array) -> tuple[float | None, ...]:
    hits, there = np.diag(table), table.sum(axis=1)
    return tuple(float(hit / count) if count else None for hit, count in zip(hits, there, strict=True))


def _short(entry: Entry) -> dict[str, Any]:
    left = ("recalls", "architecture", "texts")
    found = {name: value for name, value in entry.json().items() if name not in left}
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
