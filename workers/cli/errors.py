"""Which errors are expected, and the one line that each gets."""

import os
from typing import Any

FAILED, USAGE = 1, 2


def explain(error: Exception) -> tuple[str, int] | None:
    """The line and the exit code; None when the error is a fault of ours and deserves its traceback."""
    # Imported here: a command that goes well does not pay for every library that may go wrong.
    import kombu.exceptions
    import redis.exceptions
    import sqlalchemy.exc
    from typer.exceptions import TyperException

    from broker.errors import GristmillError, InvalidParams, UnknownJob
    from broker.settings import redis_url
    from db.place import ServerError
    from db.read import NotFound
    from db.settings import SettingsError, redact
    from db.token import TokenError

    if isinstance(error, TyperException):
        return _usage(error), error.exit_code
    if isinstance(error, InvalidParams | UnknownJob | NotFound | SettingsError | TokenError):
        return _first(error), USAGE
    if isinstance(error, ModuleNotFoundError) and (named := os.environ.get("GRISTMILL_JOBS")):
        return f"GRISTMILL_JOBS={named}: {error.msg}: put its folder on PYTHONPATH, or correct the name", USAGE
    if isinstance(error, GristmillError | ServerError):
        return _first(error), FAILED
    if isinstance(error, sqlalchemy.exc.OperationalError):
        return f"Postgres at {_postgres()} does not answer: {redact(_first(error.orig or error))}", FAILED
    if isinstance(error, sqlalchemy.exc.ProgrammingError) and "UndefinedTable" in type(error.orig).__name__:
        return f"Postgres at {_postgres()} has no tables of ours: run `gristmill migrate`", FAILED
    if isinstance(error, redis.exceptions.RedisError | kombu.exceptions.OperationalError):
        return f"Redis at {redact(redis_url())} does not answer: {redact(_first(error))}", FAILED
    return None


def _usage(error: Any) -> str:
    """What typer has to say on one line. Empty where it has shown the help instead."""
    said = " ".join(error.format_message().split()).rstrip(".")
    path = getattr(getattr(error, "ctx", None), "command_path", None)
    if not (said and path):
        return said
    return f"{said} See `{path} --help`" if said.endswith("?") else f"{said}: see `{path} --help`"


def _postgres() -> str:
    from db.settings import SettingsError, redact, settings

    try:
        return redact(settings().postgres_url())
    except SettingsError:
        return "the embedded socket"  # it stopped in between


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
