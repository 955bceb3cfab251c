"""Which errors are expected, and the one line that each gets."""

import kombu.exceptions
import redis.exceptions
import sqlalchemy.exc

from broker.errors import GristmillError, InvalidParams, UnknownJob
from broker.settings import redis_url
from db.place import ServerError
from db.settings import SettingsError, redact, settings

FAILED, USAGE = 1, 2


def explain(error: Exception) -> tuple[str, int] | None:
    """The line and the exit code; None when the error is a fault of ours and deserves its traceback."""
    if isinstance(error, InvalidParams | UnknownJob | SettingsError):
        return _first(error), USAGE
    if isinstance(error, GristmillError | ServerError):
        return _first(error), FAILED
    if isinstance(error, sqlalchemy.exc.OperationalError):
        return f"Postgres at {_postgres()} does not answer: {redact(_first(error.orig or error))}", FAILED
    if isinstance(error, sqlalchemy.exc.ProgrammingError) and "UndefinedTable" in type(error.orig).__name__:
        return f"Postgres at {_postgres()} has no tables of ours: run `gristmill migrate`", FAILED
    if isinstance(error, redis.exceptions.RedisError | kombu.exceptions.OperationalError):
        return f"Redis at {redact(redis_url())} does not answer: {redact(_first(error))}", FAILED
    return None


def _postgres() -> str:
    try:
        return redact(settings().postgres_url())
    except SettingsError:
        return "the embedded socket"  # it stopped in between


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
