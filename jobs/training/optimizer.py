"""The optimizers by the names that the options use, and the pace of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from broker.errors import JobError
from jobs.training.task import Plan


def make(groups: Iterable[dict[str, Any]], plan: Plan, name: str) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019): torch's, torch's fused one, or bitsandbytes' with 8-bit moments.

    Each group's `initial_lr` is what `set_rate` goes by. Raises JobError where bitsandbytes is asked for and missing.
    """
    kept = [{"lr": plan.rate, **group} for group in groups]
    for group in kept:
        group["initial_lr"] = group["lr"]
    common: dict[str, Any] = {"lr": plan.rate, "weight_decay": plan.decay, "betas": plan.betas}
    if name == "8bit":
        return _eight_bit()(kept, **common)
    return torch.optim.AdamW(kept, **common, fused=True if name == "fused" else None)


def has_eight_bit() -> bool:
    """Whether bitsandbytes is installed."""
    try:
        _eight_bit()
    except JobError:
        return False
    return True


def _eight_bit() -> Any:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        said = "optimizer=8bit needs bitsandbytes on the worker: pip install bitsandbytes, or use fused"
        raise JobError(said) from None
    return AdamW8bit


def pace(done: float, plan: Plan) -> float:
    """Share of the learning rate when this share of all steps is done: a linear rise, then half a cosine."""
    if done < plan.warm:
        return done / plan.warm
    return plan.floor + (1 - plan.floor) * 0.5 * (1 + math.cos(math.pi * (done - plan.warm) / (1 - plan.warm)))


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> float:
    """Every group's rate; returns the first one's."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * share
    return float(optimizer.param_groups[0]["lr"])
