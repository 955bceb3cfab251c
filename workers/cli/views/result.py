"""A long result on a terminal: what it says in words, and its numbers, as far as they fit a line each."""

from collections.abc import Iterator, Mapping
from typing import Any

# What jobs call a sentence, or sentences, about what came out; the last is what a person reads first.
_SPOKEN = ("warnings", "remark", "note", "recommendation", "decision", "verdict")
_ENTRIES = 12  # of a mapping that is told line by line
_WIDE = 120  # characters


def summary(result: Mapping[str, Any], short_id: str) -> str:
    """A line for each value that fits one, then the sentences, then where the rest is."""
    told = {name: value for name, value in result.items() if name != "report" and not _is_spoken(name, value)}
    lines = list(_lines("", told))
    lines += [f"{name}: {sentence}" for name in _SPOKEN for sentence in _sentences(result.get(name)) if sentence]
    if result.get("report"):
        lines.append(f"its report: `gristmill report {short_id}`")
    return "\n".join([*lines, f"the whole result: `gristmill show {short_id} --json`"])


def _lines(prefix: str, values: Mapping[str, Any]) -> Iterator[str]:
    """One for each value that fits, and for each of a mapping that does not."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            known = {key: each for key, each in value.items() if each is not None}
            said = ", ".join(f"{key} {_scalar(each)}" for key, each in known.items())
            if known and all(isinstance(each, str | int | float) for each in known.values()) and len(said) <= _WIDE:
                yield f"{prefix}{name}: {said}"
            elif not prefix and len(known) <= _ENTRIES:
                yield from _lines(f"{name}.", known)
        elif isinstance(value, str | int | float) and len(said := _scalar(value)) <= _WIDE:
            yield f"{prefix}{name}: {said}"


def _is_spoken(name: str, value: Any) -> bool:
    return name in _SPOKEN and (value is None or bool(_sentences(value)))


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sentences(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    return texts if isinstance(texts, list) and all(isinstance(each, str) for each in texts) else []
