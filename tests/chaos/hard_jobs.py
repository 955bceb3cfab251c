"""Jobs that are hard on their process, their worker, the memory and the disk: for test_poison and test_disk."""

import ctypes
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any, Literal

from broker.context import Context
from broker.job import Params, job

MEGABYTE = 2**20


class Poison(Params):
    """End something, abruptly."""

    how: Literal["SIGKILL", "segfault", "exit", "exit 0", "worker", "memory", "hoard"]
    after_s: float = 0


@job("chaos.poison", params=Poison, queue="cpu", max_attempts=3, backoff=0.05)
def poison(ctx: Context, params: Poison) -> int:
    time.sleep(params.after_s)
    match params.how:
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "exit 0":
            os._exit(0)
        case "worker":  # and the kernel ends its children with it
            os.kill(os.getppid(), signal.SIGKILL)
        case "memory":
            return _until_nothing_is_left(64 * MEGABYTE)
        case "hoard":
            return sum(map(len, [os.urandom(MEGABYTE) for _ in range(2048)]))
    time.sleep(60)
    raise AssertionError("still alive")


def _until_nothing_is_left(room: int) -> int:
    """Down to the last kilobyte, and all of it held when the error is raised."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, limits[1]))
    held: list[Any] = []
    for size in (MEGABYTE, 64 * 1024, 4096):
        try:
            while True:
                held.append(bytearray(size))
        except MemoryError:
            continue
    while True:
        held.append(bytearray(512))


class Innocent(Params):
    """Work beside the others for so long, or until the file is there."""

    seconds: float = 0
    go: str | None = None


@job("chaos.innocent", params=Innocent, queue="cpu", max_attempts=3, backoff=0.05)
def innocent(ctx: Context, params: Innocent) -> str:
    deadline = time.monotonic() + (params.seconds if params.go is None else 120)
    while time.monotonic() < deadline and not (params.go and Path(params.go).exists()):
        time.sleep(0.02)
    return "done"


class Keep(Params):
    """Save a checkpoint at each of three steps, then store an artifact. Waits before one of them."""

    wait_before: Literal["checkpoint", "artifact"]
    go: str
    full: str  # while this file is there, this process may write no file of more than half a checkpoint's size
    size: int = MEGABYTE


@job("chaos.keep", params=Keep, queue="cpu", max_attempts=50, backoff=0.5)
def keep(ctx: Context, params: Keep) -> dict[str, Any]:
    saved = ctx.load_checkpoint()
    begun = int((saved / "step").read_text()) if saved else 0
    for step in range(begun + 1, 4):
        _write(ctx, params, "checkpoint" if step == 3 else "", {"step": str(step)})
    digest = _write(ctx, params, "artifact", {"manifest.json": "{}"})
    return {"digest": digest, "begun": begun, "attempt": ctx.attempt}


def _write(ctx: Context, params: Keep, what: str, more: dict[str, str]) -> str | None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with ctx.store.scratch() as folder:
        (folder / "weights").write_bytes(os.urandom(params.size))
        for name, text in more.items():
            (folder / name).write_text(text)
        if what == params.wait_before:
            ctx.progress(1, 2, stage="waits")
            _until(params.go)
        if Path(params.full).exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (params.size // 2, resource.RLIM_INFINITY))
        if "manifest.json" in more:
            return ctx.store.put(folder).digest
        ctx.save_checkpoint(folder)
        return None


def _until(file: str) -> None:
    deadline = time.monotonic() + 120
    while not Path(file).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{file} never came")
        time.sleep(0.02)
