"""Batches that fit: when a device's memory runs out, the batch is halved, the work goes on, and the next job knows.

    sizes = memory.batcher(ctx, digest, device)
    for scores in sizes.run(lambda texts: model(encode(texts)).cpu(), texts, batch=64):
        ...

Why not Accelerate's `find_executable_batch_size`: docs/decisions/0012-batches-that-fit.md.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from sqlalchemy.exc import OperationalError

from broker.context import Context
from broker.errors import GristmillError, summary
from db import batch_limit
from db.engine import autocommit
from jobs.training import device as devices

if TYPE_CHECKING:
    import torch

log = structlog.get_logger()
T = TypeVar("T")
R = TypeVar("R")

# What allocators say in a plain RuntimeError: the CPU's, CUDA's outside of its caching allocator, MPS, cuBLAS, C++.
_SAID = ("out of memory", "can't allocate memory", "not enough memory", "_ALLOC_FAILED", "bad_alloc")


class OutOfMemory(GristmillError):
    """Not even a batch of one fits. Another attempt may, on another machine or when the memory is less in use."""


def ran_out(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left: torch.OutOfMemoryError, MemoryError and their like."""
    loaded = _torch()
    if isinstance(error, MemoryError) or (loaded and isinstance(error, loaded.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


class Batcher:
    """Runs one model's batches on one device, halved when its memory runs out. `fits` is None until it has."""

    def __init__(self, model: str, device: torch.device) -> None:
        """`model`: what needs the same memory each time, such as architecture and size, or an artifact's digest."""
        self.model, self.device = model, device
        self.fits: int | None = None
        self._untold = False
        self._largest = 0  # that fitted in this job
        self._again = False

    def run(self, forward: Callable[[Sequence[T]], R], items: Sequence[T], batch: int) -> Iterator[R]:
        """`forward` of each part of the items, in order; parts of `batch` items, or of fewer where these do not fit.

        What `forward` returns should be on the host, and what it makes on the way local to it: then a try that fails
        has let go of its memory before the next. A part that did not fit is run again, so it must do no harm twice.
        Raises OutOfMemory when not even one item fits.
        """
        begin = 0
        while begin < len(items):
            part = items[begin : begin + self.size(min(batch, len(items) - begin))]
            if done := self._try(forward, part, len(part), batch):
                begin, self._again = begin + len(part), False
                yield done.pop()  # held by the caller alone

    def accumulate(self, backward: Callable[[range], R], rows: int, restart: Callable[[], None]) -> list[R]:
        """`backward` of each part of one optimisation step's rows, its whole batch at once where that fits.

        The effective batch stays: `backward` adds its part's share to the gradients. Where a part does not fit, its
        gradients may be half there, so the step begins anew: `restart` is called first each time, to zero them.
        Raises OutOfMemory when not even one row fits.
        """
        while True:
            restart()
            done: list[R] = []
            size = self.size(rows)
            for begin in range(0, rows, size):
                part = range(begin, min(begin + size, rows))
                if not (tried := self._try(backward, part, len(part), rows)):
                    break
                done += tried
            else:
                self._again = False
                return done

    def size(self, batch: int) -> int:
        """The batch to use where `batch` is asked for."""
        if batch < 1:
            raise ValueError(f"batch is {batch}: give at least 1")
        return min(batch, self.fits or batch)

    def _try(self, work: Callable[[Any], R], part: Any, size: int, asked: int) -> list[R]:
        """[what it returns], or [] when it did not fit; then nothing of it is in memory any more."""
        try:
            done = [work(part)]
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            said = summary(error)
            traceback.clear_frames(error.__traceback__)  # they hold what the try had made
        else:
            self._largest = max(self._largest, size)
            if self._untold:
                self._untold = False
                self._fitted(asked)
            return done
        # Only now: until the handler was left, the error held its frames.
        gc.collect()
        _empty_caches()
        if size <= self._largest and not self._again:  # it fitted before: what was in its way is gone now
            self._again = True
            return []
        if size == 1:
            raise OutOfMemory(
                f"{self.model} does not fit into {devices.kind(self.device)} ({devices.free(self.device)}) even with a "
                f"batch of 1: use a device with more memory, a smaller model or shorter inputs: {said}"
            )
        self.fits, self._untold, self._again = size // 2, True, False
        log.warning("out_of_memory", model=self.model, batch=size, next=self.fits, reason=said)
        return []

    def _fitted(self, asked: int) -> None:
        """The first time that a batch fitted after a larger one had not."""


class _Remembering(Batcher):
    """Begins with what fitted in other jobs, tells the next ones, and writes it into the row of its own."""

    def __init__(self, ctx: Context, model: str, device: torch.device) -> None:
        super().__init__(model, device)
        self._ctx, self._looked = ctx, False

    def size(self, batch: int) -> int:
        if batch > 1 and not self._looked:
            self._looked = True
            try:
                with autocommit() as connection:
                    self.fits = batch_limit.fitted(connection, self.model, devices.kind(self.device))
            except OperationalError:  # what is known would only save time
                pass
            if self.fits and self.fits < batch:
                self._note(batch, remembered=True)
        return super().size(batch)

    def _fitted(self, asked: int) -> None:
        assert self.fits is not None  # for the type checker
        try:
            with autocommit() as connection:
                batch_limit.remember(connection, self.model, devices.kind(self.device), self.fits)
        except OperationalError as error:
            log.warning("batch_not_remembered", reason=str(error).split("\n")[0])
        self._note(asked, remembered=False)

    def _note(self, asked: int, *, remembered: bool) -> None:
        facts = {"asked": asked, "fits": self.fits, "device": devices.kind(self.device), "remembered": remembered}
        self._ctx.note(**{f"batch of {self.model}": facts})


def batcher(ctx: Context, model: str, device: torch.device) -> Batcher:
    """The batcher of a job: begins with what fitted lately, wherever that was, and remembers."""
    return _Remembering(ctx, model, device)


def _empty_caches() -> None:
    """Freed blocks go back to the device: kept in pieces, they would not hold a smaller batch either."""
    if (loaded := _torch()) is None:
        return
    if loaded.cuda.is_available() and loaded.cuda.is_initialized():
        loaded.cuda.empty_cache()
    if loaded.backends.mps.is_available():
        loaded.mps.empty_cache()


def _torch() -> Any:
    """torch, if this process has loaded it: what computes without it has neither errors nor caches of its."""
    return sys.modules.get("torch")
