"""Scoring a ranker on the held-out items: validation while training, the test split once at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from jobs.recommend import metrics
from jobs.recommend.baselines import Scorer
from jobs.recommend.histories import NONE, Histories, Split, from_sequences
from jobs.recommend.ranker import Ranker
from jobs.training.memory import Batcher

Array = np.ndarray[Any, Any]
CHUNK = 1024  # users whose scores of all items are in memory at once


def scorer(ranker: Ranker, batch: int = 256, batcher: Callable[[str, torch.device], Batcher] = Batcher) -> Scorer:
    """A ranker as a scorer of histories."""
    sizes = batcher(f"{ranker.name} scores", ranker.device)

    def scores(histories: Histories) -> Array:
        def score(users: Sequence[int]) -> Array:
            return ranker.scores([histories[user] for user in users]).cpu().numpy()

        return np.concatenate(list(sizes.run(score, range(len(histories)), batch)))

    return scores


def on_validation(scorer: Scorer, split: Split) -> dict[str, float]:
    """Full ranking of the item before the last, training items filtered."""
    return _measure(scorer, split.train, split.validation, sampled=False, seed=0)


def on_test(scorer: Scorer, split: Split, seed: int = 0) -> dict[str, float]:
    """Full ranking of the last item, all earlier ones (validation's too) known and filtered; and sampled."""
    return _measure(scorer, split.before_test(), split.test, sampled=True, seed=seed)


def _measure(scorer: Scorer, known: Histories, held: Array, sampled: bool, seed: int) -> dict[str, float]:
    users = np.flatnonzero(held != NONE)
    if not len(users):
        raise ValueError("no user has three items or more, so there is nothing to measure on: give more data")
    random = np.random.default_rng(seed)
    full, drawn = [], []
    for begin in range(0, len(users), CHUNK):
        chunk = users[begin : begin + CHUNK]
        chosen = from_sequences([known[user] for user in chunk], known.items)
        scores, seen, targets = scorer(chosen), chosen.matrix(), held[chunk]
        full.append(metrics.ranks(scores, seen, targets))
        if sampled:
            drawn.append(metrics.sampled_ranks(scores, seen, targets, random))
    values = metrics.summary(np.concatenate(full))
    return values | (metrics.summary(np.concatenate(drawn), suffix=" sampled100") if drawn else {})
