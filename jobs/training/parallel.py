"""Data parallelism on one machine: helper processes beside the job's own, a device each, that train the same steps.

The job's process is rank 0: it alone validates, checkpoints and reports. A helper that dies breaks the collective
calls of the others, so the attempt fails and the next one goes on from the checkpoint; helpers die with the job.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from broker.errors import JobError

if TYPE_CHECKING:
    from jobs.training.checkpoint import State
    from jobs.training.options import Acceleration
    from jobs.training.task import Plan, Task

_PATIENCE = timedelta(hours=6)  # that helpers wait while rank 0 validates or stores
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Seat:
    """A process's place among those that train together."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def environment(self) -> dict[str, str]:
        """What torchrun would set; nothing for one process."""
        if self.world == 1:
            return {}
        rank, world = str(self.rank), str(self.world)
        return {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world,
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # fmt: skip

    def sum(self, value: Tensor) -> Tensor:
        """Over all processes, without waiting for it."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def agree(self, value: bool, device: torch.device) -> bool:
        """What rank 0 says."""
        if self.world == 1:
            return value
        told = torch.tensor(float(value), device=device)
        dist.broadcast(told, 0)
        return bool(told)


ALONE = Seat()


@dataclass(frozen=True)
class Work:
    """What a helper needs to train along."""

    task: Task
    plan: Plan
    options: Acceleration
    device: str
    seat: Seat
    meeting: str  # the file where the processes find one another
    state: State | None


@contextmanager
def helpers(task: Task, plan: Plan, options: Acceleration, device: torch.device, state: State | None) -> Iterator[Seat]:
    """Rank 0's seat, with the other processes started beside it; they are ended with the block, however it ends.

    Raises JobError for more processes than there are GPUs.
    """
    world = options.processes or 1
    if world == 1:
        yield ALONE
        return
    if device.type == "cuda" and world > torch.cuda.device_count():
        raise JobError(
            f"processes={world} and this worker sees {torch.cuda.device_count()} GPU(s): "
            f"start it with `gristmill worker gpu --gpus-per-worker {world}`"
        )
    with tempfile.TemporaryDirectory(prefix="gristmill-") as folder:
        meeting = str(Path(folder) / "meeting")
        started: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(1, world):
                work = Work(task, plan, options, _device(device, rank), Seat(rank, world), meeting, state)
                helper = subprocess.Popen([sys.executable, "-m", __name__, str(os.getpid())], stdin=subprocess.PIPE)
                started.append(helper)
                assert helper.stdin is not None  # for the type checker
                with helper.stdin as pipe:
                    pickle.dump(work, pipe)  # between two processes of ours, as multiprocessing does it
            meet(Seat(0, world), torch.device(_device(device, 0)), meeting)
            yield Seat(0, world)
        finally:
            for helper in started:
                helper.kill()
                helper.wait()
            if dist.is_initialized():
                dist.destroy_process_group()


def meet(seat: Seat, device: torch.device, meeting: str) -> None:
    """Join the process group: by a file, so that no port is open to others. Accelerate takes the group as it is."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(meeting, seat.world)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store, rank=seat.rank, world_size=seat.world, timeout=_PATIENCE,
    )  # fmt: skip


def _device(device: torch.device, rank: int) -> str:
    return f"cuda:{rank}" if device.type == "cuda" else str(device)


def _main() -> None:
    """A helper: trains what comes in on its standard input, and says nothing."""
    parent = int(sys.argv[1])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it could be said
        return
    work: Work = pickle.load(sys.stdin.buffer)
    from jobs.training.engine import Training

    meet(work.seat, torch.device(work.device), work.meeting)
    Training(work.task, work.plan, work.options, torch.device(work.device), seat=work.seat).follow(work.state)


if __name__ == "__main__":
    _main()
