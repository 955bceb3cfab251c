"""One optimisation step: a batch in parts through the network, their gradients added up, clipped and applied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from jobs.training import optimizer as optimizers
from jobs.training import order
from jobs.training.memory import Batcher
from jobs.training.options import Acceleration
from jobs.training.parallel import ALONE, Seat
from jobs.training.task import Batch, Examples, Plan, Task

Array = np.ndarray[Any, Any]


class _Loss(nn.Module):
    """The network and its loss as one module, which is what is wrapped, compiled and parallelised."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.network, self._loss = task.model, task.loss

    def forward(self, batch: Batch) -> Tensor:
        return self._loss(self.network, batch)


@dataclass(frozen=True)
class Ready:
    """A step's rows, cut and collated."""

    rows: Array
    batches: list[Batch]
    padding: int

    @property
    def targets(self) -> int:
        return sum(batch.targets for batch in self.batches)


class Stepper:
    """Makes the steps of one training with one set of options."""

    def __init__(
        self, task: Task, plan: Plan, options: Acceleration, device: torch.device, accelerator: Accelerator,
        sizes: Batcher, seat: Seat = ALONE, groups: Sequence[dict[str, Any]] | None = None,
    ) -> None:  # fmt: skip
        self._options, self._device, self._accelerator, self._sizes, self._seat = (
            options, device, accelerator, sizes, seat,
        )  # fmt: skip
        self._plan, self._task = plan, task
        task.model.to(device).train()
        self.optimizer = optimizers.make(groups or task.groups(plan.rate), plan, options.optimizer or "adamw")
        self._prepared = accelerator.prepare_optimizer(self.optimizer, device_placement=False)
        self.rewrap()

    def rewrap(self) -> None:
        """The model's parameters are others now."""
        self._module = self._accelerator.prepare_model(_Loss(self._task), device_placement=False)

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        return self._accelerator.scaler

    def prepare(self, examples: Examples, rows: Array) -> Ready:
        """In whatever thread."""
        mine = order.share(rows, self._seat.rank, self._seat.world)
        parts = order.cut(mine, examples.lengths, self._options.micro_batch, self._options.tokens)
        batches = [examples.batch(part) for part in parts if len(part)]
        if self._device.type == "cuda" and not self._options.on_device:
            batches = [batch.pinned() for batch in batches]
        return Ready(mine, batches, order.padding(parts, examples.lengths))

    def step(self, examples: Examples, ready: Ready, number: int, share: float) -> tuple[Tensor, Tensor, float]:
        """Step `number` of the training at this share of the rate.

        Returns the mean loss over the targets of all processes and the gradient's norm, both still on the device,
        and the rate.
        """
        total = self._seat.sum(torch.tensor(float(ready.targets), device=self._device))
        seeds = np.random.SeedSequence((self._plan.seed, number, self._seat.rank))
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
        rate = optimizers.set_rate(self.optimizer, share)
        zero = partial(self.optimizer.zero_grad, set_to_none=True)
        backward = partial(self._backward, examples, ready, self._seat.world / total)
        if self._seat.world > 1:  # a process that began its step anew would be alone in it
            zero()
            losses = [backward(range(len(ready.rows)))]
        else:
            losses = self._sizes.accumulate(backward, len(ready.rows), zero)
        norm = self._accelerator.clip_grad_norm_(self._parameters(), self._options.clip or torch.inf)
        self._prepared.step()
        zero()
        return self._seat.sum(torch.stack(losses).sum()) / total, torch.as_tensor(norm), rate

    def _backward(self, examples: Examples, ready: Ready, scale: Tensor, part: range) -> Tensor:
        """Adds the gradients of some of the rows; returns the sum of their losses, still on the device."""
        batches = ready.batches if len(part) == len(ready.rows) else self.prepare(examples, ready.rows[part]).batches
        summed = torch.zeros((), device=self._device)
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            with nullcontext() if last else self._accelerator.no_sync(self._module):
                loss = self._module(batch.to(self._device))
                self._accelerator.backward(loss * scale)
            summed += loss.detach()
        return summed

    def _parameters(self) -> list[nn.Parameter]:
        return [each for group in self.optimizer.param_groups for each in group["params"]]


@contextmanager
def recomputed(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Within the block, these modules keep no activations but compute them again (Chen et al. 2016)."""
    for block in blocks:
        inner: Callable[..., Any] = block.forward
        block.forward = partial(checkpoint, inner, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
