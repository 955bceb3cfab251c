"""What workers tell Flower, without credentials: an error's message may quote a URL."""

from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher
from kombu.asynchronous import get_event_loop

from db.settings import redact

_TEXTS = ("args", "kwargs", "result", "exception", "traceback")


SOON_S = 0.1


class Dispatcher(EventDispatcher):
    """Celery's, with redacted texts; and what a worker says within SOON_S goes in one message.

    Celery flushes in every turn of the worker's loop: three messages a job, and the loop waits for each.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._due = False
        if options.get("on_send_buffered"):
            self.on_send_buffered = self._flush_soon

    def send(self, type: str, *args: Any, **fields: Any) -> Any:
        """See Celery."""
        said = {name: redact(fields[name]) for name in _TEXTS if isinstance(fields.get(name), str)}
        return super().send(type, *args, **{**fields, **said})

    def _flush_soon(self) -> None:
        loop = get_event_loop()
        if loop is not None and not self._due:
            self._due = True
            loop.call_later(SOON_S, self._flush_now)  # type: ignore[no-untyped-call]

    def _flush_now(self) -> None:
        self._due = False
        self.flush()


class Events(CeleryEvents):
    """Celery's, with our dispatcher."""

    dispatcher_cls = Dispatcher
