"""Items that nobody has seen: their vectors, or users' scores of them, by ridge regression on what is known of them.

One row an item: its (feature, value) pairs, and its title as hashed character n-grams. Ridge regression is linear in
its targets, so the same solution gives vectors from vectors and scores from scores, of whatever ranker. What it would
have said of an item of the catalogue without having seen that one has a closed form too (PRESS; Allen 1974): it chooses
the ridge, and shows how good the guesses are.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from jobs.recommend.features import Features, values

Array = np.ndarray[Any, Any]
PAIRS = 1500  # of (feature, value), the most frequent: a studio of one film tells nothing of another
BUCKETS = 512  # of hashed n-grams
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
FITTED = 20_000  # items at most: more change nothing, and the solution is as quick as for these
_INTERCEPT = 10.0  # large, so that the ridge leaves the mean alone
_MET = 2  # items that must have a pair before it is one
_TITLE = 1.0


@dataclass(frozen=True)
class Content:
    """A fitted regression."""

    columns: dict[tuple[str, str], int]
    design: csr_matrix  # (m, F) of the fitted items
    solve: Array  # (F, F) inverse of X'X + ridge over the fitted items
    fitted: Array  # (m,) the items that it was fitted on, ascending: all, or a sample of a large catalogue
    leverage: Array  # (m,) how much each of them decides of its own guess
    targets: Array  # (items, d) the vectors
    ridge: float

    @classmethod
    def fit(
        cls, vectors: Array, features: Sequence[Features], titles: Sequence[str | None] | None = None, seed: int = 0
    ) -> Content:
        """vectors (items, d) that the network has learned; features and titles of the same items."""
        met = Counter(pair for each in features for pair in values(each))
        columns = {pair: place for place, (pair, count) in enumerate(met.most_common(PAIRS)) if count >= _MET}
        some = np.arange(len(features))
        if len(some) > FITTED:
            some = np.sort(np.random.default_rng(seed).choice(some, FITTED, replace=False))
        named = titles or [None] * len(features)
        rows = _design(columns, [features[item] for item in some.tolist()], [named[item] for item in some.tolist()])
        gram = np.asarray((rows.T @ rows).todense(), dtype=np.float64)
        wanted = np.asarray(vectors[some], dtype=np.float64)
        tried = []
        for ridge in RIDGES:
            solve = np.linalg.inv(gram + ridge * np.eye(len(gram)))
            leverage = np.asarray(rows.multiply(rows @ solve).sum(axis=1)).ravel()
            left = (wanted - rows @ (solve @ (rows.T @ wanted))) / (1 - leverage)[:, None]
            tried.append((float((left**2).mean()), ridge, solve, leverage))
        _, ridge, solve, leverage = min(tried, key=lambda each: each[0])
        return cls(columns, rows, solve, some, leverage, np.asarray(vectors, dtype=np.float64), ridge)

    def vectors(self, features: Sequence[Features], titles: Sequence[str | None] | None = None) -> Array:
        """(n, d) vectors of items that the network does not know."""
        return self.scores(self.targets, features, titles)

    def scores(self, targets: Array, features: Sequence[Features], titles: Sequence[str | None] | None = None) -> Array:
        """(n, m) what new items would have of anything (items, m) that the catalogue's items have, such as the scores
        of m users."""
        new = _design(self.columns, features, titles or [None] * len(features))
        return np.asarray(new @ self._weights(targets))

    def left_out(self, targets: Array) -> Array:
        """(fitted, m) the same for the items that it was fitted on, each as if it had not been there."""
        own = np.asarray(targets[self.fitted], dtype=np.float64)
        return np.asarray(own - (own - self.design @ self._weights(targets)) / (1 - self.leverage)[:, None])

    def known(self, features: Features) -> list[tuple[str, str]]:
        """The pairs of an item that the regression has a column for."""
        return [pair for pair in values(features) if pair in self.columns]

    def _weights(self, targets: Array) -> Array:
        """(F, m)"""
        return np.asarray(self.solve @ (self.design.T @ np.asarray(targets[self.fitted], dtype=np.float64)))


def _design(
    columns: dict[tuple[str, str], int], features: Sequence[Features], titles: Sequence[str | None]
) -> csr_matrix:
    """(n, F): pairs, n-grams of the title, intercept."""
    width = len(columns) + BUCKETS + 1
    places: list[int] = []
    weights: list[float] = []
    starts = [0]
    for each, title in zip(features, titles, strict=True):
        known = [columns[pair] for pair in values(each) if pair in columns]
        grams = Counter(_ngrams(title)) if title else Counter[int]()
        norm = sum(count**2 for count in grams.values()) ** 0.5
        places += [*known, *(len(columns) + bucket for bucket in grams), width - 1]
        weights += [*(1.0 for _ in known), *(_TITLE * count / norm for count in grams.values()), _INTERCEPT]
        starts.append(len(places))
    return csr_matrix((weights, places, starts), shape=(len(features), width))


def _ngrams(title: str, shortest: int = 3, longest: int = 5) -> list[int]:
    """Buckets of a title's n-grams, at word boundaries as well."""
    text = f" {' '.join(title.casefold().split())} "
    return [
        zlib.crc32(text[start : start + length].encode()) % BUCKETS
        for length in range(shortest, longest + 1)
        for start in range(len(text) - length + 1)
    ]
