"""Top lists for many users in real batches on the device: sorted by length, last position only, `topk`, no seen items.

Equal scores are ordered by item index everywhere, so a user's list is the same in whatever batch it is computed
(exactly so in the CPU's float64, see `jobs.training.device.precision`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.recommend.model import Recommender, pack
from jobs.training.device import autocast

Array = np.ndarray[Any, Any]
BATCH = 256
_SCORES = 2**25  # at most in one batch, so that half a million items fit into memory
_DIGITS = 4  # of a stored score


@dataclass(frozen=True)
class TopList:
    """Item indexes, best first, and their scores; shorter than asked when the user has seen nearly everything."""

    items: Array  # (k,) int64
    scores: Array  # (k,) float64


def top_lists(
    model: Recommender,
    histories: Sequence[Array],
    top_k: int,
    batch: int = BATCH,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[TopList]:
    """A list for each history, none of them empty, in the order given; `on_batch(done, total)` after each batch."""
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}: ask for at least 1")
    if empty := [number for number, history in enumerate(histories) if not len(history)]:
        raise ValueError(f"history {empty[0]} is empty: recommendations need at least one known item")
    model.eval()
    batch = max(1, min(batch, _SCORES // model.shape.items))
    order = np.argsort([len(history) for history in histories], kind="stable")
    lists: list[TopList | None] = [None] * len(histories)
    begin = 0
    while begin < len(order):
        users = order[begin : begin + batch]
        try:
            made = _one_batch(model, [histories[user] for user in users], top_k)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            torch.cuda.empty_cache()
            batch //= 2  # and stay there: the histories only get longer
            continue
        for user, top in zip(users, made, strict=True):
            lists[user] = top
        begin += len(users)
        if on_batch:
            on_batch(begin, len(order))
    return [top for top in lists if top is not None]


@torch.inference_mode()
def _one_batch(model: Recommender, histories: list[Array], top_k: int) -> list[TopList]:
    device = model.item.weight.device
    rows, last = pack(histories, model.shape)
    with autocast(device):
        scores = model.next_scores(rows.to(device), last.to(device))  # (B, items)
    scores = scores if scores.dtype == torch.float64 else scores.float()
    owner = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    seen = torch.from_numpy(np.concatenate(histories)).to(device)
    scores[torch.from_numpy(owner).to(device), seen] = -torch.inf
    items, best = stable_topk(scores, min(top_k, scores.shape[1]))
    items_, best_ = items.cpu().numpy(), best.cpu().numpy().astype(np.float64)
    ends = np.isfinite(best_).sum(axis=1)
    best_ = best_.round(_DIGITS)
    return [TopList(items_[row, :end], best_[row, :end]) for row, end in enumerate(ends)]


def stable_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(B, N) to the indexes and values (B, k) that a stable descending sort begins with.

    `topk` leaves the order of equal scores open, so the few rows that have any, in the list or at its end, are sorted.
    """
    values, items = scores.topk(min(k + 1, scores.shape[1]))
    tied = ((values[:, 1:] == values[:, :-1]) & torch.isfinite(values[:, 1:])).any(dim=1)
    if bool(tied.any()):
        full = scores[tied].sort(dim=1, descending=True, stable=True)
        values[tied], items[tied] = full.values[:, : values.shape[1]], full.indices[:, : values.shape[1]]
    return items[:, :k], values[:, :k]
