"""How the processes of a worker learn that it is being stopped, so that a job hands over at its next checkpoint.

The worker's parent sends SIGUSR2 to each process that runs a job; Celery and billiard use other signals.
Importing this module makes a worker's processes listen; celeryconfig's `imports` does so.
"""

import contextlib
import os
import signal
from collections.abc import Iterable
from typing import Any

from celery.signals import worker_process_init

_asked = False


def asked() -> bool:
    """Whether the worker of this process is being stopped."""
    return _asked


def ask(pids: Iterable[int]) -> None:
    """Tell these processes of a worker, each of which has taken a job; more than once does no harm."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR2)


def _told(_number: int, _frame: object) -> None:
    global _asked
    _asked = True


@worker_process_init.connect
def _listen(**_: Any) -> None:
    signal.signal(signal.SIGUSR2, _told)
