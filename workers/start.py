"""One Celery worker, in this process, as `gristmill worker` becomes: python -m workers.start NAME PROCESSES [QUEUE …]

Celery's own command imports all of its commands before it starts a worker, a shell and Flower's server among them.
"""

import gc
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn


def main(name: str, processes: int, queues: Sequence[str]) -> NoReturn:
    """name: "cpu", "gpu" or "gpu1", or its queues; without queues, all of its class."""
    gc.disable()  # nothing of what is imported goes: looking for it, time and again, is a tenth of the start
    try:
        worker = _made(name, processes, queues)
    except Exception as error:  # a wrong setting, or a module of jobs that is not there, is one line and no traceback
        from workers.cli.errors import explain

        if (explained := explain(error)) is None:
            raise
        sys.stderr.write(f"gristmill: {explained[0]}\n")
        sys.exit(explained[1])
    gc.enable()
    worker.start()
    sys.exit(worker.exitcode)


def _made(name: str, processes: int, queues: Sequence[str]) -> Any:
    from celery.utils.nodenames import default_nodename

    from broker.address import tell
    from broker.app import app
    from broker.settings import redis_url
    from db.settings import settings
    from workers.process import queues_of

    redis_url()
    settings().postgres_url()
    tell(f"{name} worker: {processes} process(es) x {os.environ.get('OMP_NUM_THREADS', 'all')} thread(s)")
    _look_for_postgres()
    kind = name.rstrip("0123456789")
    return app.Worker(
        hostname=default_nodename(f"{name}@"),
        queues=list(queues) or queues_of(kind, int(name[len(kind) :] or 0)),
        concurrency=processes,
        task_events=True,
        loglevel=logging.INFO,
        quiet=True,
        without_gossip=True,  # these two are of no use here, and their lists in Redis outlive killed workers
        without_mingle=True,
    )


def _look_for_postgres() -> None:
    """A worker waits for Postgres as for Redis, and says so: it would look healthy and run nothing."""
    from sqlalchemy.exc import OperationalError

    from broker.address import tell
    from broker.errors import summary
    from db.engine import autocommit, dispose
    from db.settings import redact, settings

    try:
        with autocommit():
            pass
    except OperationalError as error:
        where, why = redact(settings().postgres_url()), redact(summary(error.orig))
        tell(f"Postgres at {where} does not answer: {why}: no job runs until it does")
    dispose()  # the processes are not to share a connection


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
