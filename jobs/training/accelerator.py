"""Hugging Face Accelerate for one training: mixed precision, gradient scaling, compilation, data parallelism."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import TorchDynamoPlugin

from broker.errors import JobError
from jobs.training.options import Acceleration
from jobs.training.parallel import ALONE, Seat

_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


@contextmanager
def accelerator(options: Acceleration, device: torch.device, seat: Seat = ALONE) -> Iterator[Accelerator]:
    """An Accelerator for these options. Accelerate keeps its state for the life of a process, and a worker's process
    runs one training after the other: it is forgotten before and after.

    Raises JobError for a precision that the device cannot compute in.
    """
    precision = options.precision or "fp32"
    if precision == "fp16" and device.type != "cuda":
        raise JobError(f"precision=fp16 needs a CUDA device and this is {device}: use fp32 or bf16")
    _forget()
    threads = torch.get_num_threads()  # Accelerate takes some away for data parallelism, and does not give them back
    mode = options.compile if options.compile not in (None, "off") else None
    plugin = TorchDynamoPlugin(backend="inductor", mode=mode, dynamic=True) if mode else None
    with _environment(seat.environment()):
        made = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=_PRECISION[precision],
            dynamo_plugin=plugin,
            device_placement=False,
        )
        try:
            yield made
        finally:
            made.free_memory()
            _forget()
            torch.set_num_threads(threads)


def _forget() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Accelerate and torch.distributed learn a process's rank from its environment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
