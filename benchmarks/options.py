"""The acceleration options that benchmarks.training measures one by one, and why the others are not run."""

from __future__ import annotations

from typing import Any

from jobs.training.optimizer import has_eight_bit
from jobs.training.options import Acceleration
from jobs.training.task import Plan, Task


def variants(task: Task, plan: Plan) -> tuple[dict[str, Acceleration], dict[str, str]]:
    """Each option alone, and why the others are not run here."""
    lengths = task.epoch(1).lengths
    tokens = max(int(lengths.max()), int(lengths.mean() * plan.batch / 4))
    alone: dict[str, dict[str, Any]] = {
        "progressive low rank": {"low_rank": "progressive"},
        "tokens": {"tokens": tokens},
        "cache_frozen": {"cache_frozen": True},
        "fused": {"optimizer": "fused"},
        "micro_batch": {"micro_batch": max(1, plan.batch // 4)},
        "loader": {"loader": 1},
        "buckets": {"buckets": True},
        "recompute": {"recompute": True},
        "processes": {"processes": 2},
        "8bit": {"optimizer": "8bit"},
        "compile": {"compile": "default"},
        "bf16": {"precision": "bf16"},
    }
    not_run = {
        "fp16": "needs a CUDA device",
        "on_device": "the device is the CPU: the data is in its memory",
        "pinned memory": "there is no GPU to copy to",
        "stabiliser": "changes the gradient: python -m benchmarks.stabiliser",
    }
    if not has_eight_bit():
        not_run["8bit"] = "bitsandbytes is not installed"
    if not (task.has_frozen and task.fixed):
        not_run["cache_frozen"] = "this task has no frozen layers"
    if not task.blocks():
        not_run["recompute"] = "this task names no blocks"
    chosen = {name: Acceleration(acceleration="off", **each) for name, each in alone.items() if name not in not_run}
    return {"auto": Acceleration(), **chosen}, not_run
