"""The losses of the steps: kept on the device, since looking at one waits for it, and read at intervals."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor, nn

from broker.errors import JobError
from jobs.training.record import Point, Record

_INTERVAL_S = 0.5


class Losses:
    """Of one epoch after the other."""

    def __init__(self, name: str, model: nn.Module, rate: float) -> None:
        self._name, self._model, self._rate = name, model, rate
        self._unread: list[Tensor] = []
        self._read_at = time.monotonic()
        self.epoch = [0.0, 0]  # sum and number of steps, as far as they were read

    def add(self, loss: Tensor) -> None:
        """A step's, () and still on the device."""
        self._unread.append(loss)

    @property
    def are_due(self) -> bool:
        return time.monotonic() - self._read_at >= _INTERVAL_S

    def read(self, record: Record, norm: Tensor, rate: float) -> None:
        """Into the record, with the norm and the rate of the last step. Raises JobError when the weights are lost."""
        self._read_at = time.monotonic()
        if not self._unread:
            return
        losses = torch.stack(self._unread).tolist()
        self._unread.clear()
        for loss in losses:  # one by one: the sum must not depend on when they were read
            self.epoch[0] += loss
        self.epoch[1] += len(losses)
        mean = sum(losses) / len(losses)
        record.points.append(Point(record.steps, record.seconds, mean, rate, float(norm)))
        if math.isfinite(mean):
            return
        record.events.append(f"step {record.steps}: the loss is {mean}")
        if not all(bool(torch.isfinite(each).all()) for each in self._model.parameters()):
            raise JobError(
                f"{self._name} diverged: its weights are not finite by step {record.steps}: use a lower rate than "
                f"{self._rate:g}, a smaller clip, or precision=fp32"
            )

    def end_epoch(self) -> float:
        """The mean of the epoch's steps; all of them were read."""
        mean = self.epoch[0] / self.epoch[1]
        self.epoch = [0.0, 0]
        return mean
