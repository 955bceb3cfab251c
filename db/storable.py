"""What Postgres stores of JSON and of texts: a result that it refuses is named, a message goes without such parts."""

import json
import re
from typing import Any


class NotStorable(ValueError):
    """A value that a jsonb column refuses; the message says why."""


_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def encode(value: Any) -> str:
    """The value as JSON that Postgres stores: without NaN, NUL and halves of surrogate pairs. Raises NotStorable."""
    try:
        encoded = json.dumps(value, allow_nan=False)
        if "\\ud" in encoded:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise NotStorable("no text: it contains half a surrogate pair") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise NotStorable(f"not JSON: {error}") from None
    if _NUL.search(encoded):
        raise NotStorable("no text that Postgres stores: it contains a NUL character")
    return encoded


def clean(text: str) -> str:
    """The text without what Postgres refuses: a message is to be kept, however odd."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
