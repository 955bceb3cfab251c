"""The report of a run as Markdown, and the tables that its page has too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.training.summary import table

COLUMNS = (
    "category", "pairs", "scored", "failed", "unparsable", "mean", "95 % interval", "failures as 0", "std", "min",
    "median", "max",
)  # fmt: skip
TIMES = ("stage", "seconds", "seconds a pair")
REASONS = ("stage", "pairs", "reason")
_LIMIT = 300  # characters of a reason


def markdown(data: Mapping[str, Any]) -> str:
    """The whole report; a section that has nothing to say is left out."""
    sections = {
        "Scores": f"{table(COLUMNS, scores(data))}\n\n{legend(data)}",
        "Parts of the scores": table(*parts(data)),
        "Failures": table(REASONS, reasons(data)),
        "Time": table(TIMES, times(data)),
        "Models": "\n".join(f"- {line}" for line in models(data)),
        "How it was resumed": "\n".join(f"- {line}" for line in data["resumed"]),
        "The judge": "\n".join(f"- {line}" for line in identity(data["judge"])),
        "The editor": "\n".join(f"- {line}" for line in identity(data["editor"])),
        "Configuration": f"```json\n{json.dumps(data['config'], indent=2, ensure_ascii=False)}\n```",
    }
    head = "\n".join(f"- {line}" for line in facts(data))
    written = [f"## {name}\n\n{text}" for name, text in sections.items() if text]
    return "\n\n".join([f"# {_line(data['title'])}", head, data["doubt"], *written]) + "\n"


def facts(data: Mapping[str, Any]) -> list[str]:
    """The head of the report."""
    benchmark, overall = data["benchmark"], data["overall"]
    digest = f", sha256 {benchmark['sha256'][:12]}…" if benchmark.get("sha256") else ""
    return [
        f"run {data['run']['id']}, seed {data['seed']}",
        f"benchmark {benchmark.get('path')}{digest}",
        f"editor {data['editor'].get('name', data['editor'].get('class'))}",
        f"judge {data['judge'].get('name', data['judge'].get('class'))}, scale {_scale(data)}",
        f"mean {number(overall['mean'])} ({between(overall['mean_interval_95'])}) over {overall['scored']:,} scored "
        f"pairs; {number(overall['mean_failures_as_0'])} with {overall['failed']:,} failures counted as 0",
        *([f"not finished: {overall['waiting']:,} pairs wait"] if overall["waiting"] else []),
    ]


def legend(data: Mapping[str, Any]) -> str:
    """What the columns are."""
    return (
        "mean: over the pairs that have a score, failures left out; failures as 0: each failure counted as 0. std: of "
        f"the sample (n - 1). 95 % interval: of the mean, {data['interval_is']}."
    )


def scores(data: Mapping[str, Any]) -> list[list[str]]:
    """A line for each category, the last for all."""
    return [_scores(name, each) for name, each in (*data["categories"].items(), ("overall", data["overall"]))]


def _scores(name: str, each: Mapping[str, Any]) -> list[str]:
    counts = [f"{each[key]:,}" for key in ("pairs", "scored", "failed", "unparsable")]
    rest = [number(each[key]) for key in ("mean_failures_as_0", "standard_deviation", "min", "median", "max")]
    return [_line(name), *counts, number(each["mean"]), between(each["mean_interval_95"]), *rest]


def parts(data: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Columns and lines: the mean of each part of the score."""
    names = list(data["overall"]["parts"])
    if not names:
        return (), []
    lines = [
        [_line(name), *(number(each["parts"].get(part)) for part in names)]
        for name, each in (*data["categories"].items(), ("overall", data["overall"]))
    ]
    return ("category", *map(_line, names)), lines


def reasons(data: Mapping[str, Any]) -> list[list[str]]:
    """Why pairs failed, the most frequent reason first."""
    return [[each["stage"], f"{each['pairs']:,}", _line(each["reason"])[:_LIMIT]] for each in data["failures"]]


def times(data: Mapping[str, Any]) -> list[list[str]]:
    """What the models computed, what loading took, and the whole by the clock."""
    overall, models = data["overall"], data["models"]
    return [
        ["edit", number(overall["edit_s"], 1), number(overall["edit_s_a_pair"], 3)],
        ["score", number(overall["score_s"], 1), number(overall["score_s_a_pair"], 3)],
        ["loading models", number(models.get("load_s"), 1), ""],
        ["from submission to report", number(data["wall_s"], 1), number(_each(data["wall_s"], overall["pairs"]), 3)],
    ]


def models(data: Mapping[str, Any]) -> list[str]:
    """Loads, switches and bytes, as the ledger has them."""
    found = data["models"]
    switches = found.get("switches", 0)
    said = [
        f"{found.get('loads', 0):,} loads, {switches:,} {'switch' if switches == 1 else 'switches'}, "
        f"{_size(found.get('bytes_moved', 0))} moved, {number(found.get('load_s'), 1)} s"
    ]
    for name, each in (found.get("models") or {}).items():
        said.append(f"{_line(str(name))}: {_pairs(each)}")
    return said


def identity(found: Mapping[str, Any]) -> list[str]:
    """Who edited or judged, down to versions and parameters."""
    return [f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in found.items() if value not in (None, {})]


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def between(found: Sequence[float] | None) -> str:
    return "-" if found is None else f"{found[0]:.2f} to {found[1]:.2f}"


def _scale(data: Mapping[str, Any]) -> str:
    low, high = data["scale"]
    return f"{low:g} to {high:g}"


def _each(seconds: float, pairs: int) -> float | None:
    return seconds / pairs if pairs else None


def _pairs(found: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {_size(value) if name.startswith('bytes') else _plain(value)}"
        for name, value in found.items()
    )


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return _line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _line(text: str) -> str:
    """A name or a reason that others wrote, on one line."""
    return " ".join(str(text).split())
