"""What workers tell Flower, without credentials: an error's message may quote a URL."""

from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher

from db.settings import redact

_TEXTS = ("args", "kwargs", "result", "exception", "traceback")


class Dispatcher(EventDispatcher):
    """Celery's, with redacted texts."""

    def send(self, type: str, *args: Any, **fields: Any) -> Any:
        """See Celery."""
        said = {name: redact(fields[name]) for name in _TEXTS if isinstance(fields.get(name), str)}
        return super().send(type, *args, **{**fields, **said})


class Events(CeleryEvents):
    """Celery's, with our dispatcher."""

    dispatcher_cls = Dispatcher
