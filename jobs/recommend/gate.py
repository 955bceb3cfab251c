"""Two experts on what comes next, and a gate between them: item ids as the network learned them, and item descriptions.

The text expert is a retriever: the user's hidden state against each item's description, projected into the item space.
The gate is a softmax of the hidden state at each position (mixture of experts; Jacobs et al. 1991). Both together are
one inner product, of [g1 h, g2 h, g1] with [id, text, bias]: so the losses need not know of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.recommend.model import Recommender, pack
from jobs.training.device import autocast

_BEGIN = 2.0  # of the gate's bias: 98 % for the ids at first, so a joint stage begins with what was pretrained


class Gated(nn.Module):
    """See jobs.recommend.ranker.Ranker. `texts` gives all items' descriptions in the item space."""

    def __init__(self, network: Recommender, texts: nn.Module) -> None:
        super().__init__()
        self.network, self.texts = network, texts
        self.gate = nn.Linear(network.shape.dim, 2)
        nn.init.zeros_(self.gate.weight)
        with torch.no_grad():
            self.gate.bias.copy_(torch.tensor([_BEGIN, -_BEGIN]))

    def vectors(self) -> Tensor:
        """(items + 2, 2 D + 1): of items, as `users` are scored with them; two rows for padding and mask."""
        size = self.network.item.weight.shape[0] - self.items
        texts = F.pad(self.texts(), (0, 0, 0, size))
        return torch.cat([self.network.item.weight, texts, F.pad(self.network.bias, (0, size))[:, None]], dim=1)

    def users(self, hidden: Tensor) -> Tensor:
        """(..., D) hidden states to (..., 2 D + 1)."""
        share = self.gate(hidden).softmax(dim=-1)
        return torch.cat([share[..., :1] * hidden, share[..., 1:] * hidden, share[..., :1]], dim=-1)

    @property
    def items(self) -> int:
        return self.network.items

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def name(self) -> str:
        return f"{self.network.name}-gated"

    @torch.inference_mode()
    def scores(self, histories: Sequence[np.ndarray[Any, Any]]) -> Tensor:
        """See jobs.recommend.ranker.Ranker."""
        self.eval()
        rows, last = pack(histories, self.network.shape)
        with autocast(self.device):
            users = self.users(self.network.encode(rows.to(self.device), last.to(self.device)))
            scores = users @ self.vectors()[: self.items].T
        return scores if scores.dtype == torch.float64 else scores.float()

    @torch.inference_mode()
    def share(self, histories: Sequence[np.ndarray[Any, Any]]) -> float:
        """The mean weight of the text expert."""
        rows, last = pack(histories, self.network.shape)
        hidden = self.network.encode(rows.to(self.device), last.to(self.device))
        return float(self.gate(hidden).softmax(dim=-1)[:, 1].mean())

    def fixed(self) -> Gated:
        """For inference and the artifact: the descriptions as they are projected now."""
        made = Gated(self.network, Table(self.texts().detach()))
        made.gate = self.gate
        return made.eval()


class Projected(nn.Module):
    """Descriptions (items, F) into the item space; what is projected is learned, the descriptions are not."""

    described: Tensor

    def __init__(self, described: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("described", described, persistent=False)
        self.project = nn.Linear(described.shape[1], dim, bias=False)

    def forward(self) -> Tensor:
        made: Tensor = self.project(self.described)
        return made


class Table(nn.Module):
    """Descriptions that are in the item space already, (items, D)."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors, requires_grad=False)

    def forward(self) -> Tensor:
        return self.vectors
