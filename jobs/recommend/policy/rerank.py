"""The greedy choice from a pool of candidates: relevance, diversity, novelty and calibration in one sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.recommend.policy.calibration import Calibration
from jobs.recommend.policy.mmr import Likeness

Array = np.ndarray[Any, Any]
POOL = 300  # candidates at least: what is beyond is too unlikely to be worth a place


@dataclass(frozen=True)
class Weights:
    """Of 0 to 1 each. Relevance gets what all of them leave: the product of 1 - weight."""

    diversity: float = 0.0
    novelty: float = 0.0
    calibration: float = 0.0

    @property
    def relevance(self) -> float:
        return (1 - self.diversity) * (1 - self.novelty) * (1 - self.calibration)

    @property
    def any(self) -> bool:
        return bool(self.diversity or self.novelty or self.calibration)


@dataclass(frozen=True)
class Pool:
    """Candidates, the most relevant first; a part that has no weight may be None."""

    relevance: Array  # (n,) scores of the ranker, of any scale
    vectors: Array | None = None  # (n, d)
    information: Array | None = None  # (n,) bits, novelty.self_information
    mass: Array | None = None  # (n, G) of genres, calibration.spread_over
    wanted: Array | None = None  # (G,) the user's mix of genres


def rerank(pool: Pool, weights: Weights, top_k: int) -> Array:
    """The places of the chosen candidates, min(top_k, n); without weights the head of the pool.

    Relevance and novelty are taken over the pool's range, so that a weight means the same for every ranker. Divergence
    counts for the whole list, so times its length. Of equals the more relevant is chosen. What is unlike the others, or
    balances the mix, is so in any order: the chosen are listed by relevance and novelty. On MovieLens-100K ndcg@10 of a
    list calibrated by .3 is .117 so, and .095 in the order chosen (benchmarks/policies.py).
    """
    size = len(pool.relevance)
    top_k = min(top_k, size)
    if not weights.any:
        return np.arange(top_k)
    fixed = weights.relevance * _range(pool.relevance)
    if weights.novelty:
        fixed = fixed + weights.novelty * _range(_given(pool.information, "information"))
    likeness = Likeness(_given(pool.vectors, "vectors")) if weights.diversity else None
    mixed = Calibration(_given(pool.mass, "mass"), _given(pool.wanted, "wanted")) if weights.calibration else None
    chosen = np.zeros(top_k, dtype=np.int64)
    worth = np.empty(size)
    taken = np.zeros(size, dtype=bool)
    for step in range(top_k):
        worth[:] = fixed
        if likeness:
            worth += weights.diversity * likeness.gain()
        if mixed:
            worth += weights.calibration * top_k * mixed.gain()
        worth[taken] = -np.inf
        chosen[step] = place = int(worth.argmax())
        taken[place] = True
        for part in (likeness, mixed):
            if part:
                part.take(place)
    return chosen[np.argsort(-fixed[chosen], kind="stable")]


def _given(part: Array | None, name: str) -> Array:
    if part is None:
        raise ValueError(f"a policy with this weight needs the pool's {name}")
    return part


def _range(values: Array) -> Array:
    """To 0 and 1; all alike is all 0."""
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low) if high > low else np.zeros(len(values)))
