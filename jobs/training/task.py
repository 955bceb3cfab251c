"""What a trainer brings to the engine: its model, its examples an epoch, its loss and its validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from jobs.training.memory import Batcher


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn. The effective batch is `batch` rows, however it is computed."""

    epochs: int = 10
    patience: int | None = None  # epochs without a better validation before stopping; None: all epochs
    batch: int = 64
    rate: float = 1e-3
    decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warm: float = 0.05  # share of all steps in which the rate rises
    floor: float = 0.05  # share of the rate that is left at the end of half a cosine
    seed: int = 42
    perfect: int | None = None  # epochs one after another at the metric's ceiling before stopping; None: all epochs


@dataclass(frozen=True)
class Batch:
    """Tensors that go through the network together; each trainer's own fields are added by inheritance."""

    @property
    def targets(self) -> int:
        """How many predictions the loss is a sum over."""
        raise NotImplementedError

    @property
    def tokens(self) -> int:
        """How many positions are computed, padding included."""
        raise NotImplementedError

    def to(self, device: torch.device) -> Self:
        """On the device; without waiting for the copy where the memory is pinned."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Self:
        """In page-locked memory, from which a GPU copies while it computes."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Any) -> Self:
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(value) for name, value in found.items() if isinstance(value, Tensor)})


class Examples(Protocol):
    """The training examples of one epoch."""

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """(N,) tokens of each example: what padding, buckets and token budgets go by."""
        ...

    def batch(self, rows: np.ndarray[Any, Any]) -> Batch:
        """These rows, padded to the longest of them. The same rows always give the same batch; any thread may ask."""
        ...

    def to(self, device: torch.device) -> Examples:
        """The same, held on the device, where `batch` then makes its batches."""
        ...

    @property
    def nbytes(self) -> int:
        """What `to` would take of the device's memory."""
        ...


class Task(ABC):
    """One training. The engine calls these; all of them are pure functions of the seed and their arguments."""

    name: str  # what needs the same memory each time: architecture and sizes
    model: nn.Module
    metric: str  # of `validate`; the larger the better
    ceiling: float | None = None  # the most that the metric can be
    tie: str | None = None  # of `validate`; the smaller the better, among epochs with the same `metric`
    fixed = False  # every epoch has the same examples
    has_frozen = False  # `features` gives something
    batcher: Callable[[str, torch.device], Batcher] = Batcher  # for what `validate` runs; a job's is set by the engine

    @abstractmethod
    def epoch(self, number: int) -> Examples:
        """The examples of the epoch, 1 the first; they come in another order each time without its doing."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """() the sum of the losses of the batch's targets. `model` is this task's, perhaps wrapped: call it."""

    @abstractmethod
    def validate(self, model: nn.Module) -> dict[str, float]:
        """The metrics on held-out data; the model is in eval mode and unwrapped."""

    def fingerprint(self) -> str:
        """Of the data and whatever else a checkpoint of this training hangs on."""
        return self.name

    def groups(self, rate: float) -> Iterable[dict[str, Any]]:
        """Parameter groups for the optimizer: "params" and, where it is not `rate`, "lr"."""
        return [{"params": [parameter for parameter in self.model.parameters() if parameter.requires_grad]}]

    def blocks(self) -> Sequence[nn.Module]:
        """Those whose activations may be computed again in the backward pass, such as transformer layers."""
        return ()

    def features(self, batch: Batch) -> Tensor:
        """(B, L, D) outputs of the frozen lower layers, L the batch's; only where `has_frozen`.

        The engine calls this in eval mode without gradients, once an example, and then gives batches whose field
        `features` holds them in float32; `loss` goes on from there. Needs `fixed`.
        """
        raise NotImplementedError
