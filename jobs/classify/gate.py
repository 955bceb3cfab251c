"""Whether a new model may take the place of the version in use: not where it is worse on dev, or of other classes."""

from __future__ import annotations

from typing import Any

import structlog

from broker.context import Context
from db.artifact import Model
from db.store import ArtifactError
from jobs.text import artifact
from jobs.text.data import Dataset
from jobs.text.metrics import measured
from jobs.training.device import resolve
from jobs.training.memory import batcher

log = structlog.get_logger()


def objection(
    ctx: Context, over: Model, dataset: Dataset, mine: dict[str, Any]
) -> tuple[str | None, dict[str, Any] | None]:
    """Why the version in use stays so, if it does, and what it scores on this dev. `mine`: what the new one scores."""
    device = resolve(ctx.device)
    try:
        loaded = artifact.load_model(ctx.store.fetch(over.artifact_digest), device)
    except (ArtifactError, ValueError) as error:  # it serves nobody
        log.warning("model_in_use_unusable", version=over.version, reason=str(error))
        return None, None
    if loaded.classes != dataset.classes:
        return f"version {over.version} in use knows other classes, so the two cannot be compared", None
    sizes = batcher(ctx, f"{loaded.manifest['architecture']}, inference", device)
    found = measured(loaded.logits(dataset.dev.texts, sizes), dataset.dev.labels)
    if mine["accuracy"] < found["accuracy"]:
        return f"version {over.version} in use is better on this dev (accuracy {found['accuracy']:.4f})", found
    return None, found
