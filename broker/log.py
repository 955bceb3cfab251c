"""How this project logs: one line an event with its fields, on stderr, so that stdout holds answers alone.

With GRISTMILL_LOG=json each line is a JSON object, whoever says it: this project, Celery, a library or a job's body;
and while a process runs a job, each names the job. Whatever is said has no credentials in it.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import structlog
from celery.signals import after_setup_logger, after_setup_task_logger

from broker.settings import settings
from db.settings import SettingsError, redact

# The job that this process runs. Not by context: a body's threads, and what Celery says at the end, are about it too.
_job: dict[str, Any] = {}
_CELERYS = {"id": "job_id", "name": "kind"}  # what Celery's records say of a task, and how it is called here


def about(**job: Any) -> None:
    """From now on, what this process says is about this job; without arguments, about none."""
    _job.clear()
    _job.update(job)


@cache
def as_json() -> bool:
    """Whether GRISTMILL_LOG asks for JSON. Settings that cannot be read are told of elsewhere."""
    try:
        return settings().log == "json"
    except SettingsError:
        return False


def told(line: str, **fields: Any) -> str:
    """A line for people, or of another process, as this log has it: with these fields if it is JSON, else as it is."""
    if not as_json():
        return line
    return _encoded({**(_event(line) or {"event": line, "level": "info", "timestamp": _now()}), **fields})


def _event(line: str) -> dict[str, Any] | None:
    """The event that a line of this log is; None for another's."""
    try:
        found = json.loads(line) if line.startswith("{") else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"event", "level"} <= found.keys() else None


def configure() -> None:
    """Set structlog up, unless the application around us has. Tracebacks are plain: rich ones take seconds to draw."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            lambda _logger, _method, event: {**_job, **event},
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Renderer(),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def handle(logger: logging.Logger) -> None:
    """Give a logger of the standard library one handler, on stderr, that says things as this log does."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(logging.Formatter("%(levelname)s %(name)s: %(message)s")))
    logger.handlers[:] = [handler]


class _Renderer:
    """The last of structlog's processors."""

    def __init__(self) -> None:
        self._text = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )

    def __call__(self, logger: Any, method: str, event: structlog.typing.EventDict) -> str:
        if as_json():
            return _encoded(structlog.processors.format_exc_info(logger, method, event))
        return redact(str(self._text(logger, method, event)))


class Redacted(logging.Formatter):
    """Another formatter's text without credentials, tracebacks included."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        return redact(self._inner.format(record))


class Json(logging.Formatter):
    """The same as structlog says its events."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        if record.name == "celery.redirected" and _event(text := record.getMessage().strip()):
            return text  # structlog's line: in a worker's process, what is written to stderr comes here
        said = getattr(record, "data", None)
        task = said if isinstance(said, Mapping) else {}
        line = {name: task[celerys] for celerys, name in _CELERYS.items() if task.get(celerys)} | _job
        line |= {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name}
        line["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encoded(line)


def _encoded(line: Mapping[str, Any]) -> str:
    return json.dumps(_without_secrets(line), default=lambda value: redact(repr(value)))


def _without_secrets(value: Any) -> Any:
    """Before it is encoded: what is hidden in JSON's own text may take a quote along."""
    match value:
        case str():
            return redact(value)
        case Mapping():
            return {str(name): _without_secrets(each) for name, each in value.items()}
        case list() | tuple():
            return [_without_secrets(each) for each in value]
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _formatter(text: logging.Formatter | None) -> logging.Formatter:
    return Json() if as_json() else Redacted(text)


@after_setup_logger.connect
@after_setup_task_logger.connect
def _take_over(logger: logging.Logger, **_: Any) -> None:
    """Workers, their children and beat: Celery has just set the handlers up."""
    for handler in logger.handlers:
        if not isinstance(handler.formatter, Redacted | Json):
            handler.setFormatter(_formatter(handler.formatter))
