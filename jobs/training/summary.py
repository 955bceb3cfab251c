"""The text of a training's report: speed, where the time went, memory, the options and why they were chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jobs.training.record import NOT_METRICS, Record

STAGE = "step"  # of `spent`: forward, backward and the optimizer
_SAID = {"True": "on", "False": "off", "None": "none"}  # the keys of a choice's milliseconds, which are text
_EPOCHS = 40  # lines; more epochs are thinned out, report.json has them all


def markdown(record: Record, title: str, facts: Mapping[str, Any]) -> str:
    """The whole report; a section that has nothing to say is left out."""
    options = ((name, said(value)) for name, value in record.options.items())
    resumed = f"{len(record.resumed)} times, from step {', '.join(map(str, record.resumed))}."
    sections = {
        "Epochs": _epochs(record),
        "Speed": _speed(record),
        "Where the time went": table(
            ("stage", "seconds", "share"), ((stage, whole(s), f"{part:.1%}") for stage, s, part in shares(record))
        ),
        "The profiler's view": _profile(record),
        "Memory": table(("", "MB"), ((_words(name), f"{mb:,.0f}") for name, mb in record.memory.items())),
        "What auto chose": _choices(record),
        "Options in force": table(("option", "value"), options),
        "Resumed": resumed if record.resumed else "",
        "Events": "\n".join(f"- {event}" for event in record.events),
    }  # fmt: skip
    parts = [
        f"# {title or 'A training'}",
        _head(record, facts),
        *(f"## {name}\n\n{text}" for name, text in sections.items() if text),
    ]
    return "\n\n".join(parts) + "\n"


def metrics_of(record: Record) -> list[str]:
    """The names of the validation's metrics, in the order in which they were measured."""
    return list(dict.fromkeys(name for entry in record.epochs for name in entry if name not in NOT_METRICS))


def shares(record: Record) -> Iterator[tuple[str, float, float]]:
    """Stage, seconds and share of the whole, the longest first."""
    total = record.seconds
    for stage, seconds in sorted(record.spent.items(), key=lambda each: -each[1]):
        yield stage, seconds, seconds / total if total else 0.0


def speed(record: Record) -> dict[str, float]:
    """Examples, targets and tokens a second of steps, and the share of the tokens that is padding."""
    seconds = record.spent.get(STAGE, 0.0)
    counts = {"examples": record.examples, "targets": record.targets, "tokens": record.tokens}
    found = {f"{name}_per_s": count / seconds for name, count in counts.items() if seconds}
    return found | ({"padding": record.padding / record.tokens} if record.tokens else {})


def whole(number: float) -> str:
    """About three digits, never an exponent."""
    if not math.isfinite(number):
        return str(number)
    size = abs(number)
    return f"{number:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or not size else 4}f}"


def said(value: Any) -> str:
    """A value as a person would write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {said(each)}" for name, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(said, value))
    return "none" if value is None else str(value)


def _head(record: Record, facts: Mapping[str, Any]) -> str:
    seconds = whole(record.seconds)
    lines = {
        **facts,
        "device": record.device,
        "epochs": len(record.epochs),
        "steps": f"{record.steps:,}",
        "seconds": seconds,
    }
    return "\n".join(f"- {_words(name)}: {said(value)}" for name, value in lines.items() if value != "")  # fmt: skip


def _epochs(record: Record) -> str:
    names = [name for name in NOT_METRICS if any(name in entry for entry in record.epochs)] + metrics_of(record)
    every = math.ceil(len(record.epochs) / _EPOCHS) if record.epochs else 1
    last = len(record.epochs) - 1
    shown = [entry for number, entry in enumerate(record.epochs) if number % every == 0 or number == last]
    columns = ["after s" if name == "seconds" else name for name in names]
    rows = ([_entry(name, entry[name]) if name in entry else "" for name in names] for entry in shown)
    thinned = f"\n\nOne epoch in {every}; all of them are in report.json." if every > 1 else ""
    return table(columns, rows) + thinned


def _entry(name: str, value: float) -> str:
    if name == "epoch":
        return f"{value:.0f}"
    return whole(value) if name == "seconds" or not abs(value) < 100 else f"{value:.4f}"


def _speed(record: Record) -> str:
    steps, total = record.spent.get(STAGE, 0.0), record.seconds
    counts = {"examples": record.examples, "targets": record.targets, "tokens": record.tokens}
    rows = [
        (name, whole(count / steps) if steps else "", whole(count / total) if total else "", f"{count:,}")
        for name, count in counts.items()
        if count
    ]
    padding = f"\n\n{record.padding / record.tokens:.1%} of the tokens are padding." if record.tokens else ""
    return table(("", "a second of steps", "a second in all", "number"), rows) + padding if rows else ""


def _profile(record: Record) -> str:
    rows = (
        (f"`{row['name']}`", f"{row['calls']:,}", whole(row["ms"]), f"{row['share']:.1%}") for row in record.profile
    )
    return table(("operation", "calls", "ms", "share"), rows)


def _choices(record: Record) -> str:
    lines = []
    for choice in record.choices:
        measured = ", ".join(f"{_SAID.get(value, value)} {whole(ms)} ms" for value, ms in choice.ms.items())
        tried = f" ({measured} a step)" if measured else ""
        lines.append(f"- **{choice.option}: {said(choice.value)}** {choice.why}{tried}")
    return "\n".join(lines)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, aligned as plain text too, numbers on the right; "" without rows."""
    lines = [[_cell(cell) for cell in row] for row in rows]
    if not lines:
        return ""
    wide = [max(3, *(len(line[place]) for line in [list(columns), *lines])) for place in range(len(columns))]
    right = [place > 0 and all(line[place][:1] in "+-0123456789n" for line in lines) for place in range(len(columns))]

    def row(cells: Sequence[str]) -> str:
        texts = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, wide, right, strict=True))
        return f"| {' | '.join(texts)} |"

    rule = (f"{'-' * (w - 1)}:" if r else "-" * w for w, r in zip(wide, right, strict=True))
    return "\n".join([row(columns), f"| {' | '.join(rule)} |", *map(row, lines)])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _words(name: str) -> str:
    return name.replace("_", " ")
