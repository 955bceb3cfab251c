"""What a worker has last said of its jobs reaches Flower: it is sent before the connection is closed.

Importing this module adds it to the worker's steps; celeryconfig's `imports` does so.
"""

from typing import Any

from celery import bootsteps

from broker.app import app


class LastEvents(bootsteps.StartStopStep):
    """Sends what `broker.events` holds back for a moment."""

    requires = ("celery.worker.consumer.events:Events",)

    def stop(self, consumer: Any) -> None:
        """The connection is still open: steps are stopped in the reverse of their order."""
        if consumer.event_dispatcher:
            consumer.event_dispatcher.flush()


app.steps["consumer"].add(LastEvents)
