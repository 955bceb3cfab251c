"""The job that tries all candidates on this machine and stores the fastest that is as right as the network."""

from __future__ import annotations

import time
from typing import Any

from broker.context import Context
from broker.errors import JobError
from jobs.compress import artifact, origin
from jobs.compress.gate import Gate, stratified
from jobs.compress.origin import Origin
from jobs.compress.tasks import Quantize
from jobs.compress.trial import compare
from jobs.compress.vocabulary import compacted
from jobs.text import data
from jobs.text.artifact import Loaded
from jobs.text.data import Dataset
from jobs.text.metrics import measured
from jobs.text.models import TextModel
from jobs.training.publish import earlier, result

_SHOWN = ("name", "chosen", "refused", "drop_points", "agreement", "speedup_b1", "speedup_b32", "size_ratio")


def quantize(ctx: Context, params: Quantize) -> dict[str, Any]:
    started = time.perf_counter()
    if done := earlier(ctx):
        return result(done)
    ctx.progress(0, 3, stage="read", message=params.model)
    source = origin.find(ctx, params)
    sample = stratified(source.data.dev, params.sample)
    with ctx.store.scratch() as work, ctx.store.scratch() as folder:
        try:
            gate = Gate(params.tolerance, params.agreement)
            drawn, pieces = _drawn(params, source)
            outcome = compare(
                source.loaded, sample, work, gate, most_s=params.timing_s, drawn=drawn,
                tell=lambda name: ctx.progress(1, 3, stage="try", message=name),
            )  # fmt: skip
            chosen = outcome.choose(params.prefer)
        except ValueError as error:
            raise JobError(str(error)) from None
        ctx.progress(2, 3, stage="store", message=chosen.name)
        table = outcome.json(chosen.name)
        predictor = artifact.lay_out(folder, source.loaded, outcome.files[chosen.name])
        artifact.keep_probe(folder, predictor, sample.texts, outcome.reference)
        metrics = on_splits(predictor, source.data) | {"compression": table_row(table, chosen.name)}
        facts = {"precision": chosen.precision, "quantized_from": source.json(), "candidates": table, **pieces}
        artifact.seal(folder, predictor, metrics, **facts)
        name = params.name or f"{source.name}-int8"
        made = origin.register(ctx, folder, name, source, "quantized_from", metrics, tolerance=params.tolerance)
    said = (
        None if chosen.precision == "int8" else f"no INT8 candidate is right and faster here: {chosen.name} was taken"
    )
    return made | {
        "chosen": chosen.name,
        "candidates": [{key: row[key] for key in _SHOWN} for row in table],  # the manifest has all of them
        "said": said,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _drawn(params: Quantize, source: Origin) -> tuple[Loaded | None, dict[str, Any]]:
    """What the graphs are of, where that is not the network, and what the manifest says of it."""
    if not params.prune_vocabulary:
        return None, {}
    texts = (*source.data.train.texts, *data.unlabelled(source.data, None))
    made, kept = compacted(source.loaded, texts)
    return made, {"vocabulary": {"kept": kept, "of": len(source.loaded.tokenizer)}}


def on_splits(model: TextModel, dataset: Dataset) -> dict[str, Any]:
    """{"dev": …, and "test" where there is one} for the registry."""
    splits = {"dev": dataset.dev} | ({"test": dataset.test} if dataset.test is not None else {})
    return {name: measured(model.logits(split.texts), split.labels) for name, split in splits.items()}


def table_row(table: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(row for row in table if row["name"] == name)
