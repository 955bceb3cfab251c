"""Whether a new model may come into use: measured beside the one in use and beside transition counts, user by user.

Worse is what the paired bootstrap over the validation's users calls worse at 95 %: a difference that chance explains
keeps nobody out, or else the week's histories would go unlearned each second time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import structlog
import torch

from broker.context import Context
from db.artifact import Model
from db.store import ArtifactError
from jobs.recommend import artifact, blend, evaluate
from jobs.recommend.baselines import Transitions
from jobs.recommend.evaluate import METRIC, Difference, Measured, Scorer
from jobs.recommend.histories import Histories, Split, from_sequences
from jobs.recommend.ranker import Ranker
from jobs.training.device import resolve
from jobs.training.memory import Batcher, batcher

log = structlog.get_logger()
SHARED = 0.5  # of the items: a model in use that knows fewer was trained on something else, and comparing says nothing

Array = np.ndarray[Any, Any]
Sizes = Callable[[str, torch.device], Batcher]


@dataclass(frozen=True)
class Judged:
    """What was found about a new model."""

    metrics: dict[str, dict[str, float]]  # on its validation: its own, and those of "in_use", if any, and "transitions"
    objection: str | None  # why it must not come into use by itself
    remark: str | None  # what to know of it all the same


def judge(ctx: Context, ranker: Ranker, split: Split, over: Model | None) -> Judged:
    """`ranker` knows the split's training items alone; `over` is the version in use."""
    sizes: Sizes = partial(batcher, ctx)
    new = evaluate.measure(ranker, split.train, split.validation, batcher=sizes)
    counts = evaluate.measure(Transitions.fit(split.train), split.train, split.validation, batcher=sizes)
    metrics = {"validation": new.summary(), "transitions": _compared(new, counts)}
    remark = _remark(new, counts)
    if over is None or (loaded := load(ctx, over)) is None:  # one that cannot be loaded serves nobody
        return Judged(metrics, None, remark)
    known = float(np.mean([item in loaded.index for item in split.train.items]))
    old = evaluate.measure(translated(loaded, split.train, sizes), split.train, split.validation)
    metrics["in_use"] = _compared(new, old) | {"known_items": round(known, 4)}
    return Judged(metrics, _objection(over.version, known, old, evaluate.compare(new, old)), remark)


def _objection(version: int, known: float, old: Measured, difference: Difference) -> str | None:
    if known < SHARED:
        return f"version {version} in use knows {known:.0%} of these items, so the two cannot be compared"
    if difference.verdict == "worse":
        score = old.summary()[METRIC]
        return f"version {version} in use ranks better on this validation ({METRIC} {score:.4f}, {_said(difference)})"
    return None


def _remark(new: Measured, counts: Measured) -> str | None:
    difference = evaluate.compare(new, counts)
    if difference.mean >= 0:
        return None
    better = "rank better" if difference.verdict == "worse" else "rank no worse"
    score = counts.summary()[METRIC]
    return (
        f"transition counts alone {better} on this validation ({METRIC} {score:.4f}, {_said(difference)}): try a blend"
    )


def _said(difference: Difference) -> str:
    return f"difference {difference.mean:+.4f}, 95 % from {difference.low:+.4f} to {difference.high:+.4f}"


def _compared(new: Measured, other: Measured) -> dict[str, float]:
    """The other's metrics, and by how much the new one is better."""
    less = evaluate.compare(new, other)
    return other.summary() | {"difference": less.mean, "difference_low": less.low, "difference_high": less.high}


def load(ctx: Context, over: Model) -> artifact.Loaded | None:
    try:
        return artifact.load_model(ctx.store.fetch(over.artifact_digest), resolve(ctx.device))
    except (ArtifactError, ValueError) as error:
        log.warning("model_in_use_unusable", version=over.version, reason=str(error))
        return None


def translated(loaded: artifact.Loaded, train: Histories, sizes: Sizes) -> Scorer:
    """A scorer over the items of `train` of a model with its own vocabulary; what it does not know it ranks last.

    What it has counted it counts anew in `train`: it was published with all that was known then, of which some may be
    held out here.
    """
    own = np.array([loaded.index.get(item, -1) for item in train.items])
    kept = [history for history in _known(train, own) if len(history)]
    score = evaluate.scorer(blend.knowing(loaded.ranker, from_sequences(kept, loaded.items)), batcher=sizes)

    def scores(histories: Histories) -> Array:
        known = _known(histories, own)
        usable = [number for number, history in enumerate(known) if len(history)]
        result = np.full((len(histories), len(own)), -np.inf)
        if usable:
            made = score(from_sequences([known[number] for number in usable], loaded.items))
            result[np.ix_(np.array(usable), np.flatnonzero(own >= 0))] = made[:, own[own >= 0]]
        return result

    return scores


def _known(histories: Histories, own: Array) -> list[Array]:
    """Histories in the model's own indexes, without what it does not know."""
    return [own[history][own[history] >= 0] for history in histories]
