"""The one place that chooses a device and a number format."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch


def resolve(device: str = "auto") -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; an absent device is an error, never a silent fallback."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"unknown device {device!r}: use auto, cpu or cuda") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} was asked for and this machine has no CUDA: use auto or cpu")
    return chosen


def precision(device: torch.device) -> str:
    """The name of the number format of inference there, as it is recorded: fp64 on CPUs, fp16 or bf16 on CUDA.

    In float32 two scores that nearly tie can change places with the shape of the batch (1 list of 943, measured).
    The CPU has float64 to spare for a network this small, so its lists never depend on who else is in the batch;
    bf16 autocast on an AVX2 CPU runs at a seventh of fp32.
    """
    if device.type != "cuda":
        return "fp64" if device.type == "cpu" else "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def prepare(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The model on the device, ready for inference in its format there."""
    return model.to(device, torch.float64 if precision(device) == "fp64" else torch.float32).eval()


def autocast(device: torch.device) -> AbstractContextManager[object]:
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision(device))
    return torch.autocast(device.type, dtype=kind) if kind else contextlib.nullcontext()
