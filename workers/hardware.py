"""What this machine offers to jobs: cores and GPUs, found without loading torch."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import psutil

NVIDIA = Path("/proc/driver/nvidia/gpus")
CGROUP = Path("/sys/fs/cgroup")
_CONTAINER_BYTES = ("memory.max", "memory/memory.limit_in_bytes")  # in cgroup v2 and v1


class Gpu(NamedTuple):
    """One device, by the name to put into CUDA_VISIBLE_DEVICES."""

    device: str
    name: str


def cores() -> int:
    """The cores this process may really use: its affinity, less where a container's quota says so."""
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:
        usable = os.cpu_count() or 1
    return max(1, min(usable, _quota(CGROUP) or usable))


def _quota(folder: Path) -> int | None:
    """The cores of a container's quota. Threads beyond it only make each other wait."""
    try:
        allowed, period = (folder / "cpu.max").read_text().split()
        return None if allowed == "max" else round(int(allowed) / int(period)) or 1
    except (OSError, ValueError):
        return None


def host_bytes() -> int:
    """The machine's memory, less where a container's limit says so."""
    total = int(psutil.virtual_memory().total)
    for name in _CONTAINER_BYTES:
        try:
            total = min(total, int((CGROUP / name).read_text()))
        except (OSError, ValueError):  # "max": no limit
            continue
    return total


def device_bytes(device: str) -> int | None:
    """The memory of the GPU that a job is given for "auto", "cuda" or "cuda:1"; None without one."""
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cuda"):
        return None
    number = int(index) if index.isdigit() else 0
    found = gpus()
    if number >= len(found):
        return None
    # gpus() names it as nvidia-smi does: "NVIDIA A10G, 23028 MiB"
    size = re.search(r"(\d+) MiB", found[number].name)
    return int(size[1]) << 20 if size else None


class Memory(NamedTuple):
    """Of one device, in bytes."""

    device: str
    used: int
    total: int


def gpu_memory() -> list[Memory]:
    """Of the GPUs that CUDA_VISIBLE_DEVICES names, which a gpu worker's always does: what all processes use of each."""
    visible = {each.strip() for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()}
    if not visible:
        return []
    rows = _asked("index,uuid,memory.used,memory.total", "nounits")
    return [
        Memory(f"gpu{index}", int(used) << 20, int(total) << 20)
        for index, uuid, used, total in rows
        if {index, uuid} & visible and used.isdigit() and total.isdigit()
    ]


def gpus() -> list[Gpu]:
    """The NVIDIA devices that this process may use; CUDA_VISIBLE_DEVICES narrows and orders them."""
    found = _nvidia_smi() or _driver()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    names = {gpu.device: gpu.name for gpu in found}
    wanted = [index.strip() for index in visible.split(",") if index.strip()]
    # As CUDA reads it: a device that is not there hides itself and all that follow. GPU-… names pass unchecked.
    kept: list[Gpu] = []
    for index in wanted if found else []:
        if index not in names and not index.startswith(("GPU-", "MIG-")):
            break
        kept.append(Gpu(index, names.get(index, index)))
    return kept


def _nvidia_smi() -> list[Gpu]:
    return [Gpu(index, f"{name}, {memory}") for index, name, memory in _asked("index,name,memory.total")]


def _asked(fields: str, *options: str) -> list[list[str]]:
    """What nvidia-smi says of each GPU; nothing where it is missing."""
    query = ["nvidia-smi", f"--query-gpu={fields}", f"--format={','.join(('csv', 'noheader', *options))}"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = ([part.strip() for part in line.split(",")] for line in said.splitlines())
    return [row for row in rows if len(row) == fields.count(",") + 1]


def _driver() -> list[Gpu]:
    """What the driver says where nvidia-smi is missing (a slim container)."""
    found = []
    for number, folder in enumerate(sorted(NVIDIA.glob("*"))):
        try:
            lines = (folder / "information").read_text().splitlines()
        except OSError:
            continue
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
        found.append(Gpu(str(number), names[0] if names else "NVIDIA GPU"))
    return found
