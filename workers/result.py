"""What a job's body may return."""

from typing import Any

from broker.errors import JobError
from db import storable

MAX_RESULT_BYTES = 1 << 20  # results are facts about the work; data goes to the artifact store


def check_result(kind: str, result: Any) -> None:
    """Refuse what the row cannot hold before it is written: tried again, the body would only return it again."""
    try:
        size = len(storable.encode(result))
    except storable.NotStorable as error:
        raise JobError(f"{kind} returned what is {error}; return numbers, strings, lists and dicts") from None
    if size > MAX_RESULT_BYTES:
        raise JobError(f"{kind} returned {size:,} bytes: the limit is {MAX_RESULT_BYTES:,}; return a reference")
