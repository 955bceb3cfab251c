"""A training small enough for unit tests: which of four directions a sequence of steps went, padded, with dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from jobs.training import task

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Batch(task.Batch):
    steps: Tensor  # (B, L) 1..4, 0 is padding
    answer: Tensor  # (B,)
    features: Tensor | None = None  # (B, L, D)

    @property
    def targets(self) -> int:
        return len(self.answer)

    @property
    def tokens(self) -> int:
        return self.steps.numel()


@dataclass(frozen=True)
class Walks:
    table: Tensor
    answers: Tensor
    lengths: Array

    @property
    def nbytes(self) -> int:
        return self.table.nbytes

    def to(self, device: torch.device) -> Walks:
        return Walks(self.table.to(device), self.answers.to(device), self.lengths)

    def batch(self, rows: Array) -> Batch:
        chosen = torch.from_numpy(np.ascontiguousarray(rows))
        return Batch(self.table[chosen, : int(self.lengths[rows].max())], self.answers[chosen])


class Network(nn.Module):
    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.steps = nn.Embedding(5, dim, padding_idx=0)
        self.lower = nn.Linear(dim, dim)
        self.block = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Dropout(dropout))
        self.head = nn.Linear(dim, 4)

    def forward(self, batch: Batch) -> Tensor:
        """(B, 4)"""
        hidden = self.below(batch.steps) if batch.features is None else batch.features
        real = (batch.steps != 0)[..., None]
        return self.head((self.block(hidden) * real).sum(1) / real.sum(1))

    def below(self, steps: Tensor) -> Tensor:
        """(B, L, D)"""
        return torch.tanh(self.lower(self.steps(steps)))


class Walking(task.Task):
    """Which step is the most frequent of a walk."""

    name = "walking"
    metric = "accuracy"
    fixed = True

    def __init__(
        self, walks: int = 96, dim: int = 16, dropout: float = 0.1, frozen: bool = False, seed: int = 3
    ) -> None:
        random = np.random.default_rng(seed)
        self.has_frozen = frozen
        self.train, self.held = _walks(random, walks), _walks(random, 64)
        torch.manual_seed(3)
        self.model = Network(dim, dropout)
        if frozen:
            self.model.steps.requires_grad_(False)
            self.model.lower.requires_grad_(False)

    def epoch(self, number: int) -> Walks:
        return self.train

    def loss(self, model: nn.Module, batch: task.Batch) -> Tensor:
        return nn.functional.cross_entropy(model(batch), cast(Batch, batch).answer, reduction="sum")

    def validate(self, model: nn.Module) -> dict[str, float]:
        batch = self.held.batch(np.arange(len(self.held.lengths)))
        with torch.no_grad():
            return {"accuracy": (model(batch).argmax(1) == batch.answer).float().mean().item()}

    def blocks(self) -> list[nn.Module]:
        return [cast(Network, self.model).block]

    def features(self, batch: task.Batch) -> Tensor:
        return cast(Network, self.model).below(cast(Batch, batch).steps)


def _walks(random: np.random.Generator, count: int) -> Walks:
    lengths = random.integers(3, 25, count)
    answers = random.integers(0, 4, count)
    table = np.where(random.random((count, 24)) < 0.5, answers[:, None] + 1, random.integers(1, 5, (count, 24)))
    table[np.arange(24) >= lengths[:, None]] = 0
    return Walks(torch.from_numpy(table), torch.from_numpy(answers), lengths)
