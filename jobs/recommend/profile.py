"""What a user's history is made of: counts of genres, tags, years, decades and whatever else the catalogue has.

`features.count` is the plain loop over items; `FeatureTable.counts` is the same for many users as one matrix product.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from jobs.recommend.features import Counts, Features, values
from jobs.recommend.histories import from_sequences


def profile_hash(item_ids: Sequence[str]) -> str:
    """sha256 over the item ids in time order: another order is another profile.

    The text is jsonb's own, so that Postgres computes the same (db/interactions.py).
    """
    return hashlib.sha256(json.dumps(list(item_ids), ensure_ascii=False).encode()).hexdigest()


class FeatureTable:
    """The catalogue as a matrix, a row an item of the vocabulary and a column a (feature, value) pair."""

    def __init__(self, items: Sequence[str], features: Mapping[str, Features]) -> None:
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
