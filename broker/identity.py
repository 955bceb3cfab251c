"""Who a worker is: its Celery name and a token of this one start of it.

The name alone does not tell apart two machines of one host name, nor a worker and its predecessor, and a worker that
shuts down must give back its own jobs only.
"""

import os
from uuid import uuid4

_TOKEN = "GRISTMILL_WORKER_TOKEN"  # set by the worker's parent process and inherited by its pool's processes


def begin() -> None:
    """Called once by a worker's parent process, before it starts its pool."""
    os.environ[_TOKEN] = uuid4().hex[:8]


def worker_name(hostname: str) -> str:
    """The name under which this worker claims, renews and gives back."""
    return f"{hostname}#{os.environ.get(_TOKEN, '')}"
