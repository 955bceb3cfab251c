"""How this project logs: one line an event with its fields, on stderr, so that stdout holds answers alone.

Whatever a process of ours says has no credentials in it, whoever said it: Celery, a library or a job's body.
"""

import logging
import sys
from typing import Any

import structlog
from celery.signals import after_setup_logger, after_setup_task_logger

from db.settings import redact


def configure() -> None:
    """Set structlog up, unless the application around us has. Tracebacks are plain: rich ones take seconds to draw."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
            lambda _logger, _method, line: redact(str(line)),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


class Redacted(logging.Formatter):
    """Another formatter's text without credentials, tracebacks included."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        return redact(self._inner.format(record))


@after_setup_logger.connect
@after_setup_task_logger.connect
def _redact(logger: logging.Logger, **_: Any) -> None:
    """Workers, their children and beat: Celery has just set the handlers up."""
    for handler in logger.handlers:
        if not isinstance(handler.formatter, Redacted):
            handler.setFormatter(Redacted(handler.formatter))
