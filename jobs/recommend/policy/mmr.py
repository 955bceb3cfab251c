"""Maximal marginal relevance (Carbonell & Goldstein 1998): the next item is relevant, and unlike those listed already.

Likeness is the cosine of item vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def unit(vectors: Array) -> Array:
    """(n, d) rows of length one; a row of zeros stays, and is like nothing."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1))


class Likeness:
    """How like each candidate is to the most similar item listed so far: max over the list of the cosine."""

    def __init__(self, vectors: Array) -> None:
        """vectors (n, d), of the candidates."""
        self._unit = unit(vectors)
        self._most = np.full(len(vectors), -np.inf)

    def take(self, place: int) -> None:
        """The candidate at this place is listed."""
        np.maximum(self._most, self._unit @ self._unit[place], out=self._most)

    def gain(self) -> Array:
        """(n,) 1 - the greatest cosine: 0 for what is listed already; all alike while nothing is."""
        return np.where(np.isfinite(self._most), 1 - self._most, 0.0)


def spread(vectors: Array) -> float:
    """Intra-list diversity: the mean of 1 - cosine over all pairs of a list's items; 0 for a list of one."""
    if len(vectors) < 2:
        return 0.0
    rows = unit(vectors)
    pairs = np.triu_indices(len(rows), 1)
    return float((1 - (rows @ rows.T)[pairs]).mean())
