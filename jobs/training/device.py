"""The one place that chooses a device and a number format, and knows what memory it has.

torch is imported by what needs it: to know the host's memory, nothing does.
"""

from __future__ import annotations

import contextlib
import resource
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    import torch

# What a container may use, in cgroup v2 and v1.
_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


# The device of what computes without torch, for `kind`, `free` and memory.py.
HOST: Any = SimpleNamespace(type="cpu")


def resolve(device: str = "auto") -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; an absent device is an error, never a silent fallback."""
    import torch

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
    import torch

    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def prepare(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The model on the device, ready for inference in its format there."""
    import torch

    return model.to(device, torch.float64 if precision(device) == "fp64" else torch.float32).eval()


def autocast(device: torch.device) -> AbstractContextManager[object]:
    import torch

    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision(device))
    return torch.autocast(device.type, dtype=kind) if kind else contextlib.nullcontext()


def kind(device: torch.device) -> str:
    """What is true of all devices like this one: its name and memory, such as "NVIDIA A10G, 22 GB" or "cpu, 16 GB"."""
    if device.type == "cuda":
        import torch

        found = torch.cuda.get_device_properties(device)
        return f"{found.name}, {_gb(found.total_memory)}"
    return f"{device.type}, {_gb(_host_bytes())}"


def free(device: torch.device) -> str:
    """What is left of its memory, for a message."""
    if device.type == "cuda":
        import torch

        return f"{_gb(torch.cuda.mem_get_info(device)[0])} free"
    left = min(psutil.virtual_memory().available, _host_bytes() - psutil.Process().memory_info().rss)
    return f"{_gb(left)} free"


def _host_bytes() -> int:
    """The memory that this process may use: the machine's, less where a container or a limit says so."""
    total = int(psutil.virtual_memory().total)
    for file in _CONTAINER:
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            total = min(total, int(file.read_text()))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return total if limit == resource.RLIM_INFINITY else min(total, limit)


def _gb(count: int) -> str:
    return f"{count / 2**30:.0f} GB" if count >= 10 * 2**30 else f"{count / 2**30:.1f} GB"
