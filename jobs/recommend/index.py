"""The best items of a large catalogue without scoring all: an inverted file (FAISS IVF) of the network's item vectors.

Score = hidden . vector + bias is one inner product when the bias is a further dimension of the items and 1 of the user.
Items are put into cells, and users sent to them, by Euclidean distance, after yet another dimension has given all items
the same length (Bachrach et al. 2014, section 3.1): by inner product the longest centroids would draw everyone. Within
the cells inner products are exact, so the only error is an item whose cell was not looked at: `recall` counts it.

An index is built where it is used and never read from a file: docs/decisions/0021-faiss-for-large-catalogues.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import faiss
import numpy as np
import torch
from torch import Tensor

from jobs.recommend.model import Recommender, pack
from jobs.recommend.precompute import Exhaustive

Array = np.ndarray[Any, Any]
_CELLS = 2  # times the root of the number of items
_POINTS = 39  # a cell, to find the centroids from: what FAISS asks for at least
_ROUNDS = 8  # of k-means
_FIRST_PROBES = 8
_MOST_PROBES = 1 / 8  # of the cells; where more are needed, scoring all items is as fast
_SEEN = 1000  # more candidates at most, so that enough are left without the seen ones


class Index:
    """See jobs.recommend.precompute.Search. `probes`: cells that are looked at for each user."""

    most = 512

    def __init__(self, network: Recommender, seed: int = 0) -> None:
        self._network, self._all = network, Exhaustive(network)
        self._cells = _cells(_items(network), seed)
        self._seen = np.zeros(network.items, dtype=bool)
        self.probes = min(_FIRST_PROBES, self._cells.nlist)

    @property
    def bytes(self) -> int:
        return int(self._cells.ntotal * (self._cells.code_size + 8) + self._cells.nlist * self._cells.code_size)

    @property
    def most_probes(self) -> int:
        return int(_MOST_PROBES * self._cells.nlist)

    @torch.inference_mode()
    def best(self, histories: Sequence[Array], k: int) -> tuple[Array, Array]:
        """See Search. Users whose cells hold too few unseen items have all items scored."""
        rows, last = pack(histories, self._network.shape)
        k = min(k, self._network.items)
        values, items = self.near(self._network.encode(rows, last), wanted(k, histories, self._network.items))
        values[self._unusable(items, histories)] = -np.inf
        order = np.lexsort((items, -values), axis=1)[:, :k]  # equal scores in the order of the items
        items, values = np.take_along_axis(items, order, axis=1), np.take_along_axis(values, order, axis=1)
        values = values.astype(np.float64)
        unseen = np.array([self._network.items - len(np.unique(history)) for history in histories])
        if short := np.flatnonzero(np.isfinite(values).sum(axis=1) < np.minimum(unseen, k)).tolist():
            items[short], values[short] = self._score_all([histories[row] for row in short], k)
        return np.maximum(items, 0), values

    def near(self, hidden: Tensor, wanted: int) -> tuple[Array, Array]:
        """Scores and items (B, wanted) of the network's own hidden states (B, D), best first; item -1 fills up."""
        query = np.zeros((len(hidden), self._cells.d), dtype=np.float32)
        query[:, : hidden.shape[1]] = hidden.numpy()
        query[:, hidden.shape[1]] = 1
        self._cells.nprobe = self.probes
        values, items = self._cells.search(query, wanted)
        return values, items

    def _unusable(self, items: Array, histories: Sequence[Array]) -> Array:
        """Which candidates (B, wanted) are seen, or fill up a row (-1)."""
        out = items < 0
        for row, history in enumerate(histories):
            self._seen[history] = True
            out[row] |= self._seen[items[row]]
            self._seen[history] = False
        return out

    def _score_all(self, histories: Sequence[Array], k: int) -> tuple[Array, Array]:
        parts = [histories[begin : begin + self._all.most] for begin in range(0, len(histories), self._all.most)]
        items, values = zip(*(self._all.best(part, k) for part in parts), strict=True)
        return np.concatenate(items), np.concatenate(values)


class Probing(Protocol):
    """A search that looks at some cells of its index for each user."""

    probes: int

    @property
    def most_probes(self) -> int: ...

    def best(self, histories: Sequence[Array], k: int) -> tuple[Array, Array]: ...


def reach(search: Probing, floor: float, histories: Sequence[Array], truth: Array) -> float:
    """Raise `probes` until the recall of these lists (B, k) is at least the floor, or too many would be needed.

    Returns the recall reached.
    """
    while True:
        found = recall(search.best(histories, truth.shape[1])[0], truth)
        if found >= floor or 2 * search.probes > search.most_probes:
            return found
        search.probes *= 2


def wanted(k: int, histories: Sequence[Array], items: int) -> int:
    """How many to look for, so that k are left without the seen ones."""
    return min(k + min(max(map(len, histories)), _SEEN), items)


def recall(found: Array, truth: Array) -> float:
    """Share of the true lists' items (B, k) that are in the found ones."""
    return float(np.mean([np.isin(right, row).mean() for row, right in zip(found, truth, strict=True)]))


def _items(network: Recommender) -> Array:
    """(items, D + 2) float32: vector, bias, and what brings all to the length of the longest."""
    with torch.inference_mode():
        vectors = network.item.weight[: network.items].numpy()
        table = np.concatenate([vectors, network.bias.numpy()[:, None]], axis=1, dtype=np.float64)
    squared = (table**2).sum(axis=1)
    return np.concatenate([table, np.sqrt(squared.max() - squared)[:, None]], axis=1, dtype=np.float32)


def _cells(table: Array, seed: int) -> Any:
    count, width = table.shape
    number = max(1, min(int(_CELLS * count**0.5), count // _POINTS))
    cells = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, number, faiss.METRIC_INNER_PRODUCT)
    cells.cp.spherical, cells.cp.niter, cells.cp.seed = False, _ROUNDS, seed
    random = np.random.default_rng(seed)
    cells.train(table[random.choice(count, min(count, _POINTS * number), replace=False)])
    cells.add(table)
    return cells
