"""The rankers to beat: popularity, item-kNN and EASE^R (Steck 2019), each histories in, scores of all items out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jobs.recommend.histories import Histories

Array = np.ndarray[Any, Any]
Scorer = Callable[[Histories], Array]  # (users, items) float


def popularity(train: Histories) -> Scorer:
    counts = np.bincount(train.flat, minlength=len(train.items)).astype(np.float32)
    return lambda histories: np.tile(counts, (len(histories), 1))


def item_knn(train: Histories, neighbours: int = 100, shrink: float = 10.0) -> Scorer:
    """Cosine of items' users, shrunk towards zero where few users met both, the nearest neighbours only."""
    met = train.matrix()
    both = np.asarray((met.T @ met).todense(), dtype=np.float32)
    norm = np.sqrt(np.diag(both))
    similar = both / (np.outer(norm, norm) + shrink)
    np.fill_diagonal(similar, 0)
    if neighbours < len(similar):
        floor = -np.partition(-similar, neighbours - 1, axis=1)[:, neighbours - 1 : neighbours]
        similar[similar < floor] = 0
    return lambda histories: np.asarray(histories.matrix() @ similar.T)


def ease(train: Histories, ridge: float = 500.0) -> Scorer:
    """A linear auto-encoder with a zero diagonal, in closed form."""
    met = train.matrix().astype(np.float64)
    gram = np.asarray((met.T @ met).todense())
    gram[np.diag_indices_from(gram)] += ridge
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return lambda histories: np.asarray(histories.matrix() @ weights)


BASELINES: dict[str, Callable[[Histories], Scorer]] = {
    "popularity": popularity,
    "item-knn": item_knn,
    "ease": ease,
}
