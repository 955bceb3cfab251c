"""Whether a new classifier may replace the version in use: not where it is worse on dev, or of other classes."""

from __future__ import annotations

from typing import Any

import structlog

from broker.context import Context
from db.artifact import Model
from db.store import ArtifactError
from jobs.text import models
from jobs.text.data import Dataset
from jobs.text.metrics import measured
from jobs.text.runtime import WrongMachine

log = structlog.get_logger()


def objection(
    ctx: Context, over: Model, dataset: Dataset, mine: dict[str, Any], tolerance: float = 0.0
) -> tuple[str | None, dict[str, Any] | None]:
    """Why the version in use stays so, if it does, and what it scores on this dev, whatever form it has.

    `mine`: what the new one scores on it. `tolerance`: points of accuracy that the new one may be worse.
    """
    version = f"version {over.version} in use"
    try:
        champion = models.open_model(ctx.store.fetch(over.artifact_digest), ctx.device)
    except WrongMachine as error:  # it may well serve others
        log.warning("model_in_use_of_another_machine", version=over.version, reason=str(error))
        return f"{version} cannot be compared on this machine, which computes something else than its own", None
    except (ArtifactError, ValueError) as error:  # it serves nobody
        log.warning("model_in_use_unusable", version=over.version, reason=str(error))
        return None, None
    if tuple(champion.classes) != dataset.classes:
        return f"{version} knows other classes, so the two cannot be compared", None
    found = measured(champion.logits(dataset.dev.texts), dataset.dev.labels)
    if 100 * (found["accuracy"] - mine["accuracy"]) > tolerance + 1e-9:  # of points, what rounding leaves
        return f"{version} is better on this dev (accuracy {found['accuracy']:.4f})", found
    return None, found
