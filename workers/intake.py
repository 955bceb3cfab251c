"""A worker takes no more messages than it has processes that are up.

Celery counts the processes that there should be. But one that starts, or replaces another that was killed, imports for
seconds, and the message that waits for it is kept from the idle processes of other workers.
Importing this module adds it to the worker's steps; celeryconfig's `imports` does so.
"""

from typing import Any

from celery import bootsteps
from celery.worker import state

from broker.app import app


class Intake(bootsteps.StartStopStep):
    """Tells the channel that messages are taken from, after each connection, how many may be in hand."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """The consumer has a new channel."""
        # Of the prefork pool alone: a process is in it from its message that it is up until its end.
        up = getattr(getattr(consumer.pool, "_pool", None), "_fileno_to_inq", None)
        if up is None:
            return
        qos = consumer.task_consumer.channel.qos
        may = qos.can_consume
        qos.can_consume = lambda: len(state.reserved_requests) < len(up) and may()


app.steps["consumer"].add(Intake)
