"""The job that writes a network as an ONNX graph in float32: the same answers, without torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from broker.context import Context
from broker.errors import JobError
from jobs.compress import artifact, origin
from jobs.compress.candidates import fuse
from jobs.compress.origin import Origin
from jobs.compress.quantize import on_splits
from jobs.compress.tasks import Export
from jobs.text.export import ExportError, check
from jobs.text.export import export as write
from jobs.text.network import Classifier
from jobs.training.publish import earlier, result


def export(ctx: Context, params: Export) -> dict[str, Any]:
    started = time.perf_counter()
    if done := earlier(ctx):
        return result(done)
    ctx.progress(0, 2, stage="read", message=params.model)
    source = origin.find(ctx, params)
    texts = source.data.dev.texts
    with ctx.store.scratch() as work, ctx.store.scratch() as folder:
        plain = graph = work / "plain.onnx"
        try:
            written = write(source.loaded, plain, texts, params.difference)
            facts: dict[str, Any] = {"difference": written.difference, "exporter": written.exporter, "fused": False}
            if isinstance(source.loaded.model, Classifier) and (found := _fused(source, plain, params.difference)):
                graph, facts["difference"] = found
                facts["fused"] = True
        except ValueError as error:
            raise JobError(str(error)) from None
        ctx.progress(1, 2, stage="store")
        predictor = artifact.lay_out(folder, source.loaded, graph)
        metrics = on_splits(predictor, source.data) | {"export": facts}
        artifact.seal(folder, predictor, metrics, precision="fp32", exported_from=source.json())
        name = params.name or f"{source.name}-onnx"
        made = origin.register(ctx, folder, name, source, "exported_from", metrics, tolerance=params.tolerance)
    return made | facts | {"seconds": round(time.perf_counter() - started, 3)}


def _fused(source: Origin, plain: Path, limit: float) -> tuple[Path, float] | None:
    """The fused graph and its difference; None where the fusions do not know the architecture, or get it wrong."""
    path = plain.with_name("fused.onnx")
    try:
        fuse(plain, path, model=source.loaded.model)
        return path, check(source.loaded, path, source.data.dev.texts, limit)
    except ExportError:
        return None
