"""Where a step's time goes, from torch's profiler over a few steps of the first epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from jobs.training.record import Record

_WAIT, _ACTIVE, _ROWS = 10, 2, 12
_LEAST_S = 60.0  # of expected training: starting the profiler takes half a second and more


@contextmanager
def of(record: Record, device: torch.device, done: int) -> Iterator[Callable[[int], None]]:
    """Gives what to call after each step with the number of steps in all; fills the record's profile once.

    A training that goes on has had its own, and a short one does without.
    """
    taking: profile | None = None
    steps = 0

    def tick(total: int) -> None:
        nonlocal taking, steps
        steps += 1
        if done or steps > _WAIT + _ACTIVE or record.spent["step"] / steps * total < _LEAST_S:
            return
        with record.spending("profile"):
            if steps == _WAIT:
                activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
                taking = profile(activities=activities)
                taking.start()
            elif steps == _WAIT + _ACTIVE and taking is not None:
                taking.stop()
                record.profile = _largest(taking, device)
                taking = None

    try:
        yield tick
    finally:
        if taking is not None:
            taking.stop()


def _largest(taken: profile, device: torch.device) -> list[dict[str, Any]]:
    """The operations that took longest by themselves, on the device where there is one."""
    field = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    found = [(event.key, event.count, getattr(event, field)) for event in taken.key_averages()]
    total = sum(us for *_, us in found) or 1.0
    found.sort(key=lambda each: -each[2])
    return [
        {"name": name, "calls": count, "ms": round(us / 1000, 3), "share": round(us / total, 4)}
        for name, count, us in found[:_ROWS]
        if us
    ]
