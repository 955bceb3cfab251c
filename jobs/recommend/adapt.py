"""Per-user adaptation: a few steps on a small vector of each user, kept only where the user's last item speaks for it.

The network stays as it is. What is learned is added to the user's hidden state at every position, from the user's own
history without its last item; the likelihood of that one, before and after, decides whether it is used. All users of a
batch take each step at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jobs.recommend.batches import Batch, Windows
from jobs.recommend.losses import logits
from jobs.recommend.model import Recommender, pack

_LOGITS = 2**25  # of a step, in memory at once


class Adapted:
    """See jobs.recommend.ranker.Ranker: a network that adapts to each user before it scores."""

    def __init__(self, network: Recommender, steps: int = 5, rate: float = 0.05, pull: float = 1.0) -> None:
        """rate: of Adam's steps; pull: weight of the vector's square, against the mean loss of a history's items.

        Raises ValueError for a network that does not predict the next item at each position.
        """
        if not network.shape.causal:
            raise ValueError(f"{network.name} cannot adapt to users: only a causal network (sasrec) can")
        self.network, self.steps, self.rate, self.pull = network, steps, rate, pull
        self.users = self.kept = 0  # of all that were scored

    @property
    def name(self) -> str:
        return f"{self.network.name}-adapted"

    @property
    def items(self) -> int:
        return self.network.items

    @property
    def device(self) -> torch.device:
        return self.network.device

    def scores(self, histories: Sequence[np.ndarray[Any, Any]]) -> Tensor:
        self.network.eval()
        step = max(1, _LOGITS // (self.items * self.network.shape.length))
        parts = [self._part(histories[begin : begin + step]) for begin in range(0, len(histories), step)]
        return torch.cat(parts)

    def _part(self, histories: Sequence[np.ndarray[Any, Any]]) -> Tensor:
        rows, last = (tensor.to(self.device) for tensor in pack(histories, self.network.shape))
        with torch.inference_mode(False), torch.no_grad():
            hidden = self.network.encode(rows)  # (B, L, D)
            change = self._learn(rows, last, hidden) if rows.shape[1] > 2 else torch.zeros_like(hidden[:, 0])
            return self.network.score(hidden[torch.arange(len(rows), device=self.device), last] + change)

    def _learn(self, rows: Tensor, last: Tensor, hidden: Tensor) -> Tensor:
        """(B, D): what is added to each user's hidden state; 0 where it does not help."""
        nothing = torch.zeros((len(rows), 0), dtype=torch.bool, device=self.device)
        batch = Windows(self.network.shape, rows, nothing, last.cpu().numpy()).batch(np.arange(len(rows)))
        user, place = batch.place // batch.rows.shape[1], batch.place % batch.rows.shape[1]
        states = hidden[user, place]  # (T, D)
        held = place == last[user] - 1  # predicts the user's last item
        share = (~held) / torch.bincount(user[~held], minlength=len(rows)).clamp(min=1)[user]  # (T,) of a user's mean

        change = torch.zeros_like(hidden[:, 0]).requires_grad_()
        optimizer = torch.optim.Adam([change], lr=self.rate)
        before = self._losses(states, batch)
        with torch.enable_grad():
            for _ in range(self.steps):
                optimizer.zero_grad()
                loss = (
                    self._losses(states + change[user], batch) * share
                ).sum() + self.pull / 2 * change.square().sum()
                loss.backward()
                optimizer.step()
        after = self._losses(states + change[user], batch)
        better = torch.zeros(len(rows), dtype=torch.bool, device=self.device)
        better[user[held]] = (after < before)[held]
        better &= last >= 2  # something to learn from beside the item that decides
        self.users, self.kept = self.users + len(rows), self.kept + int(better.sum())
        return change.detach() * better[:, None]

    def _losses(self, states: Tensor, batch: Batch) -> Tensor:
        """(T,) of each target."""
        open_ = logits(self.network.item.weight, self.network.bias, states, batch)
        return F.cross_entropy(open_, batch.target[:, 0], reduction="none")
