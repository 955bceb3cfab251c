"""The processes of a worker: the first are forked before anything runs in their parent, their successors are spawned.

What the parent has imported is theirs at once, and in memory once: a spawned process imports all of it again. But a
process must not be forked from one that has threads, since it may inherit a lock that nobody will release, nor from one
that has touched a GPU (docs/decisions/0004-spawned-children.md). celeryconfig names this pool.
"""

import gc
import os
import sys
from pathlib import Path
from typing import Any

from billiard import get_context
from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool

_THREADS = Path("/proc/self/task")


def clean() -> bool:
    """Whether this process has one thread, those of libraries counted, and no torch, which may have touched a GPU."""
    return _THREADS.is_dir() and len(os.listdir(_THREADS)) == 1 and "torch" not in sys.modules


class _Pool(AsynPool):
    def _create_worker_process(self, i: int) -> Any:
        if forked := clean():
            gc.freeze()  # a collection would write to every page that the child shares, and takes a tenth of a second
        self._ctx = get_context("fork" if forked else "spawn")
        self._Process = self._ctx.Process
        return super()._create_worker_process(i)


class TaskPool(prefork.TaskPool):
    """Celery's prefork pool, of such processes."""

    Pool = _Pool
