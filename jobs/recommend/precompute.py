"""Top lists for many users in real batches on the device: sorted by length, last position only, `topk`, no seen items.

Equal scores are ordered by item index everywhere, so a user's list is the same in whatever batch it is computed
(exactly so in the CPU's float64, see `jobs.training.device.precision`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from jobs.recommend.ranker import Ranker, places
from jobs.training.memory import Batcher

Array = np.ndarray[Any, Any]
BATCH = 512
_SCORES = 2**25  # at most in one batch, so that half a million items fit into memory
_DIGITS = 4  # of a stored score


class Search(Protocol):
    """A way to the best items of each history."""

    @property
    def most(self) -> int:
        """Histories at once."""

    def best(self, histories: Sequence[Array], k: int) -> tuple[Array, Array]:
        """Item indexes and scores (B, k or items), best first, seen items never; -inf where there are no more."""


@dataclass(frozen=True)
class TopLists:
    """A row a user: item indexes, best first, and their scores.

    Tables, not an object a user: making those costs as much as the network does. A user who has seen nearly everything
    has fewer than k; the rest of that row means nothing.
    """

    items: Array  # (users, k) int64
    scores: Array  # (users, k) float64
    lengths: Array  # (users,) int64

    def __len__(self) -> int:
        return len(self.lengths)

    def lists(self, names: Sequence[str] | None = None) -> list[list[Any]]:
        """The lists of indexes, or of the names that stand at these indexes."""
        table = self.items if names is None else np.asarray(names, dtype=object)[self.items]
        return self._cut(table.tolist())

    def score_lists(self) -> list[list[float]]:
        return self._cut(self.scores.tolist())

    def _cut(self, rows: list[list[Any]]) -> list[list[Any]]:
        for row in np.flatnonzero(self.lengths < self.items.shape[1]):
            del rows[row][self.lengths[row] :]
        return rows


def top_lists(
    ranker: Ranker,
    histories: Sequence[Array],
    top_k: int,
    batch: int = BATCH,
    on_batch: Callable[[int, int], None] | None = None,
    batcher: Callable[[str, torch.device], Batcher] = Batcher,
    search: Search | None = None,
) -> TopLists:
    """A list for each history, none of them empty, in the order given; `on_batch(done, total)` after each batch.

    search: another way to the ranker's lists than scoring all items, see `jobs.recommend.serving`.
    """
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}: ask for at least 1")
    lengths = np.fromiter(map(len, histories), dtype=np.int64, count=len(histories))
    if not lengths.all():
        raise ValueError(f"history {lengths.argmin()} is empty: recommendations need at least one known item")
    by = search or Exhaustive(ranker)
    order = np.argsort(lengths, kind="stable")
    shape = (len(histories), min(top_k, ranker.items))
    items, scores = np.zeros(shape, dtype=np.int64), np.full(shape, -np.inf)

    def one(users: Sequence[int]) -> tuple[Sequence[int], Array, Array]:
        return users, *by.best([histories[user] for user in users], top_k)

    sizes, done = batcher(f"{ranker.name} top lists", ranker.device), 0
    for users, best, values in sizes.run(one, order.tolist(), min(batch, by.most)):
        items[users], scores[users] = best, values
        done += len(users)
        if on_batch:
            on_batch(done, len(order))
    return TopLists(items, scores.round(_DIGITS), np.isfinite(scores).sum(axis=1))


class Exhaustive:
    """All items are scored."""

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker
        self.most = max(1, _SCORES // ranker.items)

    @torch.inference_mode()
    def best(self, histories: Sequence[Array], k: int) -> tuple[Array, Array]:
        """See Search."""
        return stable_topk(unseen(self._ranker.scores(histories), histories), k)


def unseen(scores: Tensor, histories: Sequence[Array]) -> Tensor:
    """The scores (B, items), with those of each history's own items set to -inf."""
    scores[places(histories, scores.device)] = -torch.inf
    return scores


def stable_topk(scores: Tensor, k: int) -> tuple[Array, Array]:
    """(B, N) to the indexes and values (B, k or N) that a stable descending sort begins with.

    Selection leaves the order of equal scores open, so the few rows that have any, in the list or at its end, are
    sorted whole.
    """
    items, values = select(scores, k + 1)  # one more, to see a tie at the end
    take = items.shape[1]
    tied = ((values[:, 1:] == values[:, :-1]) & np.isfinite(values[:, 1:])).any(axis=1)
    for row in np.flatnonzero(tied):
        items[row] = np.argsort(-scores[row].cpu().numpy(), kind="stable")[:take]
        values[row] = scores[row].cpu().numpy()[items[row]]
    return items[:, :k], values[:, :k].astype(np.float64)


def select(scores: Tensor, k: int) -> tuple[Array, Array]:
    """(B, N) to the indexes and values (B, k or N) of the highest, in descending order, equal ones in any.

    numpy selects three times as fast as `torch.topk` on a CPU.
    """
    width = scores.shape[1]
    take = min(k, width)
    if scores.device.type != "cpu":
        values, items = (tensor.cpu().numpy() for tensor in scores.topk(take))
        return items, values
    table = scores.numpy()
    items = np.argpartition(table, width - take, axis=1)[:, width - take :]
    values = np.take_along_axis(table, items, axis=1)
    order = np.argsort(-values, axis=1)
    return np.take_along_axis(items, order, axis=1), np.take_along_axis(values, order, axis=1)
