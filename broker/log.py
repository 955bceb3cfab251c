"""How this project logs: one line an event with its fields, on stderr, so that stdout holds answers alone."""

import sys

import structlog


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
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
