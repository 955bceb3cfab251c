"""Batches prepared ahead by threads while the device computes.

Threads, not torch's DataLoader processes: a job runs in a daemonic pool process, which may have no children, and a
fork of a process that has used CUDA is broken. What is done here (indexing, padding, pinning) releases the GIL, and
texts are tokenised before the training begins. See docs/decisions/0015-the-training-engine.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

W = TypeVar("W")
R = TypeVar("R")

_AHEAD = 2  # pieces of work a thread


def ahead(prepare: Callable[[W], R], work: Sequence[W] | Iterable[W], threads: int) -> Iterator[R]:
    """`prepare` of each piece in order, by so many threads that stay at it; with 0, when it is asked for."""
    if not threads:
        yield from map(prepare, work)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="loader") as pool:
        coming: deque[Future[R]] = deque()
        try:
            for piece in work:
                coming.append(pool.submit(prepare, piece))
                if len(coming) > _AHEAD * threads:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for each in coming:
                each.cancel()
