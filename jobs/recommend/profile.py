"""What a user's history is made of: counts of genres, tags, years, decades and whatever else the catalogue has.

`count` is the plain loop over items; `FeatureTable.counts` gives the same for many users as one matrix product.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from jobs.recommend.data import Features
from jobs.recommend.histories import from_sequences

Counts = dict[str, dict[str, int]]  # feature -> value -> number of items
_LONGEST = 80  # a longer text is a description, of which there is nothing to count


def profile_hash(item_ids: Sequence[str]) -> str:
    """sha256 over the item ids in time order: another order is another profile."""
    return hashlib.sha256(json.dumps(list(item_ids)).encode()).hexdigest()


def values(features: Features) -> Iterator[tuple[str, str]]:
    """The (feature, value) pairs of one item, each once; a year counts for its decade too."""
    pairs: dict[tuple[str, str], None] = {}
    for name, cell in features.items():
        for value in cell if isinstance(cell, list) else [cell]:
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            text = json.dumps(value) if isinstance(value, bool) else str(value)
            if value is None or not text or len(text) > _LONGEST:
                continue
            pairs[name, text] = None
            if name == "year" and isinstance(value, int):
                pairs["decade", f"{value // 10 * 10}s"] = None
    return iter(pairs)


def count(items: Iterable[Features]) -> Counts:
    """Counts over one history, item by item."""
    counts: Counts = {}
    for features in items:
        for name, value in values(features):
            of = counts.setdefault(name, {})
            of[value] = of.get(value, 0) + 1
    return counts


class FeatureTable:
    """The catalogue as a matrix, a row an item of the vocabulary and a column a (feature, value) pair."""

    def __init__(self, items: Sequence[str], features: dict[str, Features]) -> None:
        pairs = [list(values(features.get(item, {}))) for item in items]
        columns = sorted({pair for row in pairs for pair in row})
        place = {pair: column for column, pair in enumerate(columns)}
        flat = [place[pair] for row in pairs for pair in row]
        starts = np.concatenate([[0], np.cumsum([len(row) for row in pairs])])
        shape = (len(items), len(columns))
        self._items = tuple(items)
        self._names = sorted({name for name, _ in columns})
        self._feature = np.array([self._names.index(name) for name, _ in columns], dtype=np.int64)
        self._values = np.array([value for _, value in columns], dtype=object)
        self._matrix = csr_matrix((np.ones(len(flat), dtype=np.float32), flat, starts), shape=shape)

    def counts(self, histories: Sequence[np.ndarray[Any, Any]]) -> list[Counts]:
        """Counts for each history of item indexes."""
        met = from_sequences(histories, self._items).matrix()
        totals = csr_matrix(met @ self._matrix)
        totals.sort_indices()  # columns are in order of the feature's name, so each feature is one stretch of a row
        width = len(self._names)
        owner = np.repeat(np.arange(len(histories)), np.diff(totals.indptr))
        ends = np.searchsorted(owner * width + self._feature[totals.indices], np.arange(len(histories) * width + 1))
        bounds, texts, numbers = (
            ends.tolist(),
            self._values[totals.indices].tolist(),
            totals.data.astype(np.int64).tolist(),
        )
        result: list[Counts] = []
        for row in range(len(histories)):
            counts: Counts = {}
            for name, place in zip(self._names, range(row * width, (row + 1) * width), strict=True):
                begin, end = bounds[place], bounds[place + 1]
                if begin < end:
                    counts[name] = dict(zip(texts[begin:end], numbers[begin:end], strict=True))
            result.append(counts)
        return result
