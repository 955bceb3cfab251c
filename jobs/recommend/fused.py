"""The best items of a large catalogue by a blend, without scoring all: candidates of each part, fused exactly.

A blend adds scores that are brought to mean 0 and deviation 1 over the items that the user has not seen. Both are known
without scoring these: of a network from the sum and the Gram matrix of its item vectors, of transition counts from the
few that are not 0. So a candidate's score is that of the exact blend, and the only error is an item that is no part's
candidate, though it is among the best by the sum: `jobs.recommend.index.recall` counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from jobs.recommend.baselines import Transitions
from jobs.recommend.blend import Blend, standard
from jobs.recommend.index import Index, wanted
from jobs.recommend.model import Recommender, pack
from jobs.recommend.precompute import Exhaustive

Array = np.ndarray[Any, Any]
_DEEP = 5  # candidates of each part for each place of the list


class Fused:
    """See jobs.recommend.precompute.Search. `probes`: cells of each network's index that are looked at for each user.

    blend: on a CPU, of networks and transitions, added by their scores (`jobs.recommend.serving.fusible`).
    """

    most = 64

    def __init__(self, blend: Blend) -> None:
        self._items, self._all = blend.items, Exhaustive(blend)
        self._networks, self._counts = list[tuple[float, _Network]](), list[tuple[float, Transitions]]()
        for name, part in blend.parts.items():
            if isinstance(part, Recommender):
                self._networks.append((blend.weights[name], _Network(part)))
            elif isinstance(part, Transitions):
                self._counts.append((blend.weights[name], part))
        self._row = np.zeros(blend.items)  # of counts, one user's at a time
        self.probes = self._networks[0][1].index.probes

    @property
    def most_probes(self) -> int:
        return min(network.index.most_probes for _, network in self._networks)

    @property
    def bytes(self) -> int:
        return sum(network.index.bytes for _, network in self._networks)

    @torch.inference_mode()
    def best(self, histories: Sequence[Array], k: int) -> tuple[Array, Array]:
        """See Search. Users with too few candidates have all items scored."""
        k = min(k, self._items)
        deep = wanted(_DEEP * k, histories, self._items)
        hidden = [network.encode(histories) for _, network in self._networks]  # (B, D) each
        near = [net.near(states, deep, self.probes) for (_, net), states in zip(self._networks, hidden, strict=True)]
        vectors = [states.numpy() for states in hidden]
        counts = [part.sparse(histories) for _, part in self._counts]  # (B, items) each
        items, values = np.zeros((len(histories), k), dtype=np.int64), np.full((len(histories), k), -np.inf)
        short = []
        for row, history in enumerate(histories):
            seen = np.unique(history)
            rows = [_row(each, row) for each in counts]
            own = wanted(_DEEP * k, [history], self._items)  # whoever else is in the batch
            found = [each[row, :own] for each in near] + [_strongest(*each, own) for each in rows]
            candidates = np.setdiff1d(np.concatenate(found), np.append(seen, -1))  # in the order of the items
            if len(candidates) < min(self._items - len(seen), k):
                short.append(row)
                continue
            total = np.zeros(len(candidates))
            for (weight, network), states in zip(self._networks, vectors, strict=True):
                total += weight * network.standard(states[row], candidates, seen)
            for (weight, _), (places, numbers) in zip(self._counts, rows, strict=True):
                total += weight * self._standard(places, numbers, candidates, seen)
            order = np.argsort(-total, kind="stable")[:k]
            items[row, : len(order)], values[row, : len(order)] = candidates[order], total[order]
        if short:
            items[short], values[short] = self._all.best([histories[row] for row in short], k)
        return items, values

    def _standard(self, places: Array, numbers: Array, candidates: Array, seen: Array) -> Array:
        """A row of counts at the candidates, on the blend's scale."""
        self._row[places] = numbers
        own, met = self._row[candidates], self._row[seen]
        self._row[places] = 0
        total, squares = numbers.sum(dtype=np.float64), np.square(numbers, dtype=np.float64).sum()
        scaled = standard(own, total - met.sum(), squares - np.square(met).sum(), self._items - len(seen) or 1)
        return np.copysign(np.log1p(np.abs(scaled)), scaled)


class _Network:
    """A network's item vectors, an index of them, and what their scores' mean and deviation follow from."""

    def __init__(self, network: Recommender) -> None:
        self._network, self.index = network, Index(network)
        with torch.inference_mode():
            self._vectors = network.item.weight[: network.items].numpy()  # (items, D)
            self._bias = network.bias.numpy()
        self._sum, self._bias_sum = self._vectors.sum(axis=0, dtype=np.float64), float(self._bias.sum(dtype=np.float64))
        self._gram = (self._vectors.T @ self._vectors).astype(np.float64)
        self._cross, self._bias_squares = self._vectors.T @ self._bias, float(self._bias @ self._bias)

    def encode(self, histories: Sequence[Array]) -> torch.Tensor:
        rows, last = pack(histories, self._network.shape)
        return self._network.encode(rows, last)

    def near(self, hidden: torch.Tensor, deep: int, probes: int) -> Array:
        self.index.probes = probes
        return self.index.near(hidden, deep)[1]

    def standard(self, hidden: Array, candidates: Array, seen: Array) -> Array:
        """Scores of the candidates for a hidden state (D,), on the blend's scale."""
        met = self._scores(hidden, seen)
        total = float(hidden @ self._sum) + self._bias_sum - met.sum()
        squares = float(hidden @ self._gram @ hidden + 2 * hidden @ self._cross) + self._bias_squares
        unseen = len(self._bias) - len(seen) or 1
        scores = self._scores(hidden, candidates)
        return np.asarray(standard(scores, total, squares - np.square(met).sum(), unseen))

    def _scores(self, hidden: Array, items: Array) -> Array:
        return np.asarray(self._vectors[items] @ hidden + self._bias[items], dtype=np.float64)


def _row(counts: Any, row: int) -> tuple[Array, Array]:
    """Items and numbers of one row of a sparse matrix."""
    span = slice(counts.indptr[row], counts.indptr[row + 1])
    return counts.indices[span], counts.data[span]


def _strongest(places: Array, numbers: Array, most: int) -> Array:
    if len(places) <= most:
        return places
    return np.asarray(places[np.argpartition(-numbers, most)[:most]])
