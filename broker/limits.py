"""How large what a caller gives may be, with reasons; and how refused values are shown."""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from pydantic_core import to_json

from broker.errors import InvalidParams

# Parameters are references; data goes into a file or the artifact store. The most that our own jobs take honestly is a
# history of 20,000 items or a batch of 10,000 usernames: 0.8 MB of JSON. Every claim reads the row again.
PARAMS_BYTES: Final = 1 << 20
# What programs write by hand has a handful of levels. Postgres, pydantic and Python each give up at some hundreds, in
# ways that look like an outage.
PARAMS_DEPTH: Final = 32
# The rest of a chain is in the row of each of its links; a group of 10,000 that follows a link takes 3.5 MB.
CANVAS_BYTES: Final = 4 << 20
CANVAS_DEPTH: Final = 200  # pydantic writes 255 levels; a chain in a chord in a chain takes six each
KIND_CHARACTERS: Final = 200  # of a job's name: it is in every message, log line and metric
TIME_LIMIT_S: Final = 10 * 365 * 86400.0  # a number that every clock and column can hold
SHOWN_CHARACTERS: Final = 80  # of a value in the line that refuses it

TOO_DEEP: Final = f"nested hundreds of levels deep: the limit is {PARAMS_DEPTH}: pass a flatter structure"

_MANY_DIGITS = re.compile(rb"\d{4000}")  # Python reads back numbers of up to 4,300


def check(what: str, encoded: bytes, most_bytes: int, most_levels: int) -> None:
    """Refuse JSON that is too large, too deep or not readable again. Raises InvalidParams."""
    if len(encoded) > most_bytes:
        raise InvalidParams(
            f"{what} of {len(encoded):,} bytes: the limit is {most_bytes:,}: "
            "put the data into a file or the artifact store, and pass its path or digest"
        )
    # Levels are brackets: only what has many is worth a look at how they nest.
    if encoded.count(b"[") + encoded.count(b"{") > most_levels and (levels := _levels(encoded)) > most_levels:
        raise InvalidParams(f"{what} {levels} levels deep: the limit is {most_levels}: pass a flatter structure")
    if _MANY_DIGITS.search(encoded):
        try:
            json.loads(encoded)
        except ValueError:
            raise InvalidParams(f"{what} with a number of thousands of digits: pass it as text") from None


def check_canvas(what: str, value: Any) -> None:
    """Refuse a chain, chord or group that is too large. Raises InvalidParams."""
    try:
        encoded = to_json(value, inf_nan_mode="constants", fallback=str)
    except ValueError:
        raise InvalidParams(f"{what} is nested too deeply: use fewer chains within chords") from None
    check(what, encoded, CANVAS_BYTES, CANVAS_DEPTH)


def shown(value: Any, write: Callable[[Any], str] = repr) -> str:
    """A value as far as it is worth showing: it may be of any size and depth."""
    if isinstance(value, str | list | tuple):
        value = value[:SHOWN_CHARACTERS]
    try:
        text = write(value)
    except (ValueError, TypeError, RecursionError):
        text = f"<{type(value).__name__}>"
    return cut(text)


def cut(text: str, characters: int = SHOWN_CHARACTERS) -> str:
    """A name or a message may hold a caller's text of any size."""
    return text if len(text) <= characters else f"{text[: characters - 3]}..."


def _levels(encoded: bytes) -> int:
    depth = deepest = 0
    for bracket in re.sub(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^][{}"]+', b"", encoded):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
