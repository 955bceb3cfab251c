"""What of a machine decides how INT8 behaves on it: the instructions its CPU has. No torch, no numpy."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

# As Linux names them. Without VNNI, products of u8 and s8 are added in pairs as int16, and saturate.
RELEVANT = ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile",
            "amx_int8", "asimd", "asimddp", "i8mm", "sve")  # fmt: skip
VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


@cache
def describe() -> dict[str, Any]:
    """{"architecture", "flags": those of RELEVANT, sorted, "cores": that this process may use}.

    Where the system does not tell (no /proc/cpuinfo) there are no flags, and only the architecture is compared.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return {"architecture": platform.machine(), "flags": sorted(_flags() & set(RELEVANT)), "cores": cores}


def is_like(made_on: Mapping[str, Any], here: Mapping[str, Any] | None = None) -> bool:
    """Whether INT8 is computed here as it was there: the number of cores does not matter to that."""
    here = here or describe()
    return all(made_on.get(name) == here[name] for name in ("architecture", "flags"))


def name(machine: Mapping[str, Any]) -> str:
    """For a message: "x86_64 with avx2, fma"."""
    return f"{machine.get('architecture', 'unknown')} with {', '.join(machine.get('flags', ())) or 'no known flags'}"


def _flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    lines = (line.partition(":") for line in text.splitlines())
    return next((set(value.split()) for key, _, value in lines if key.strip() in ("flags", "Features")), set())
