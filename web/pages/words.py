"""How numbers, times and jobs read on a page."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup, escape

from broker import words
from broker.queues import PRIORITIES
from db.prefix import PREFIX
from db.read import JobDetail, JobRow
from db.settings import redact

STATES = {
    "PENDING": "queued", "STARTED": "running", "RETRY": "to be retried", "SUCCESS": "done", "FAILURE": "failed",
    "REVOKED": "cancelled",
}  # fmt: skip
_PRIORITIES = {step: name for name, step in PRIORITIES.items()}


def span(seconds: float | None) -> str:
    """A length of time in the unit that fits."""
    return "–" if seconds is None else words.span(seconds)


def since(moment: datetime | None) -> str:
    """How long ago."""
    return span(None if moment is None else (datetime.now(UTC) - moment).total_seconds())


def moment(value: datetime | None) -> str:
    """A time as a person reads it; pages are in UTC, since no server knows where its reader is."""
    return "–" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def note(job: JobRow) -> str:
    """What is worth knowing of it at a glance."""
    return words.note(job, lambda message: redact(message.strip().partition("\n")[0])[:200], _progress)


def size(count: float) -> str:
    """Bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def number(value: float) -> str:
    """A count with its thousands apart."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def reason(job: JobDetail) -> str:
    """Why a job that has ended did not succeed, without secrets."""
    return redact(str((job.error or {}).get("message") or "it was cancelled")).strip()


def readable(value: Any) -> str:
    """JSON over several lines."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def query(**given: Any) -> str:
    """The part of an address behind its path; what is None or empty is left out."""
    kept = {name: value for name, value in given.items() if value not in (None, "")}
    return f"?{urlencode(kept)}" if kept else ""


def model(name: str, version: int | None = None) -> str:
    """The address of a model's page."""
    return f"/models/{quote(name, safe='')}{query(version=version)}"


def breakable(name: str) -> Markup:
    """A name of several parts, which goes into a narrow column by them."""
    return Markup("<wbr>").join(re.findall(r"[^._@#]*[._@#]|[^._@#]+", name))


def prose(message: str) -> Markup:
    """A message as a sentence on a page: what stands between backticks is code. A name that it begins with, such as in
    `queue='x'` or `data: …`, stays as it is."""
    begins_with_name = re.match(r"[\w.]+[=:]", message)
    words_and_code = (message if begins_with_name else message[:1].upper() + message[1:]).split("`")
    if len(words_and_code) % 2 == 0:  # one backtick without its other
        return escape(message)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(each) if place % 2 else each for place, each in enumerate(words_and_code))


def _progress(progress: dict[str, Any] | None) -> str:
    if not progress:
        return ""
    counted = f"{progress.get('done')} of {progress.get('total')}" if progress.get("total") else ""
    return " ".join(str(part) for part in (counted, progress.get("stage"), progress.get("message")) if part)


FILTERS: dict[str, Callable[..., Any]] = {
    "span": span, "since": since, "moment": moment, "took": words.took_s, "note": note, "size": size, "number": number,
    "readable": readable, "prose": prose, "redact": redact, "brief": lambda value: str(value)[:PREFIX],
    "state": lambda value: STATES.get(value, value), "priority": lambda value: _PRIORITIES.get(value, str(value)),
    "model": model, "breakable": breakable,
}  # fmt: skip
