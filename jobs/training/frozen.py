"""The outputs of frozen lower layers, computed once: every epoch after that trains the upper layers alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.training import order
from jobs.training.task import Batch, Examples, Task

Array = np.ndarray[Any, Any]
_TOKENS = 8192  # a forward pass


@dataclass(frozen=True)
class Cached:
    """Examples whose batches carry what the frozen layers make of them, kept in float16."""

    examples: Examples
    flat: Tensor  # (tokens of all examples, D) float16
    starts: Tensor  # (N,) of each example's in it

    @property
    def lengths(self) -> Array:
        return self.examples.lengths

    @property
    def nbytes(self) -> int:
        return self.examples.nbytes + self.flat.nbytes

    def to(self, device: torch.device) -> Cached:
        return Cached(self.examples.to(device), self.flat.to(device), self.starts.to(device))

    def batch(self, rows: Array) -> Batch:
        made = self.examples.batch(rows)
        lengths = torch.from_numpy(np.ascontiguousarray(self.lengths[rows])).to(self.flat.device)
        column = torch.arange(int(lengths.max()), device=self.flat.device)
        inside = column < lengths[:, None]  # (B, L)
        starts = self.starts[torch.from_numpy(np.ascontiguousarray(rows)).to(self.flat.device)]
        features = self.flat[torch.where(inside, starts[:, None] + column, 0)]  # (B, L, D)
        return replace(made, features=features.masked_fill(~inside[..., None], 0).float())  # type: ignore[call-arg]


@torch.no_grad()
def cached(
    task: Task, examples: Examples, device: torch.device, tick: Callable[[int, int], None] = lambda done, total: None
) -> Cached:
    """The examples with their features; the model's dropout is off while they are made.

    `tick` is told (examples done, examples in all).
    """
    lengths = examples.lengths
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    flat: Tensor | None = None
    was_training = task.model.training
    task.model.eval()
    done = 0
    for rows in order.cut(np.arange(len(lengths)), lengths, tokens=_TOKENS):
        made = task.features(examples.batch(rows).to(device))
        if flat is None:
            flat = torch.empty(int(lengths.sum()), made.shape[2], dtype=torch.float16)
        column = np.arange(int(lengths[rows].max()))
        inside = column < lengths[rows][:, None]
        place = (starts[rows][:, None] + column)[inside]
        flat[torch.from_numpy(place)] = made[:, : len(column)][torch.from_numpy(inside)].to("cpu", torch.float16)
        done += len(rows)
        tick(done, len(lengths))
    task.model.train(was_training)
    assert flat is not None  # for the type checker: an epoch without examples was refused before
    return Cached(examples, flat, torch.from_numpy(starts))
