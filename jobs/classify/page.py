"""The report of a comparison: report.json for programs; report.md, index.html (one file) and compare.png for people."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from jobs.classify.verdict import Entry
from jobs.text.footprint import FLOPS
from jobs.training import fonts, html
from jobs.training.curves import BLUE, GREEN, GREY, ORANGE, RED
from jobs.training.html import bullets
from jobs.training.summary import table

PICTURE, PAGE = "compare.png", "index.html"
_ROLES = {"teacher": (BLUE, "o"), "student": (GREEN, "^"), "compressed": (ORANGE, "s"), "baseline": (GREY, "X")}
_NOTABLE = 2.0  # points of recall
_HEIGHTS = (6, -14, 20, -28, 34, -42)  # points above its model that a label may be
_TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Comparison:
    """All that a comparison found; `entries` come in their order, the most accurate first, the baseline where it is."""

    title: str
    entries: Sequence[Entry]
    classes: Sequence[str]
    recommendation: Sequence[str]
    left_out: Mapping[str, str]  # model -> why
    facts: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "facts": dict(self.facts),
            "recommendation": list(self.recommendation),
            "models": [entry.json() for entry in self.entries],
            "classes": list(self.classes),
            "left_out": dict(self.left_out),
            "flops_are": FLOPS,
        }

    def write(self, folder: Path) -> None:
        (folder / "report.json").write_text(json.dumps(self.json(), ensure_ascii=False, allow_nan=False))
        (folder / "report.md").write_text(self.markdown())
        self.draw(folder / PICTURE)
        (folder / PAGE).write_text(self.html((folder / PICTURE).read_bytes()))

    def markdown(self) -> str:
        parts = [
            f"# {self.title}",
            "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in self.facts.items()),
            "## Recommendation",
            "\n".join(f"- {sentence}" for sentence in self.recommendation),
            "## Models",
            table(_COLUMNS, [_cells(entry) for entry in self.entries]),
            f"`*` is on the Pareto front of accuracy and p50. FLOPs: {FLOPS}.",
            "## What they weigh",
            table(_WEIGHTS, [_weights(entry) for entry in self.entries]),
            "## Lineage",
            "\n".join(f"- {entry.model}: {entry.architecture}; {entry.lineage or 'trained'}" for entry in self.entries),
            "## Recall of each class",
            table(("class", *(entry.model for entry in self.entries)), self._per_class()),
        ]
        if self.left_out:
            parts += ["## Left out", "\n".join(f"- {name}: {why}" for name, why in self.left_out.items())]
        return "\n\n".join(parts) + "\n"

    def _per_class(self) -> list[list[str]]:
        """Each class: the first model's recall, and by how many points the others differ from it."""
        rows = []
        for number, name in enumerate(self.classes):
            first, *others = (entry.recalls[number] for entry in self.entries)
            whole = "" if first is None else f"{100 * first:.1f} %"
            rows.append([name, whole, *(_difference(first, other) for other in others)])
        return rows

    def html(self, picture: bytes) -> str:
        """A page in one file: nothing is loaded from elsewhere, and no name is markup."""
        left_out = [f"{name}: {why}" for name, why in self.left_out.items()]
        lineage = [f"{each.model}: {each.architecture}; {each.lineage or 'trained'}" for each in self.entries]
        marked = [entry.pareto for entry in self.entries]
        return html.page(
            self.title,
            _TEMPLATE,
            facts=bullets([f"{name.replace('_', ' ')}: {value}" for name, value in self.facts.items()]),
            recommendation=bullets(self.recommendation),
            picture=base64.b64encode(picture).decode(),
            models=html.table(_COLUMNS, [_cells(entry) for entry in self.entries], marked),
            weights=html.table(_WEIGHTS, [_weights(entry) for entry in self.entries], marked),
            lineage=bullets(lineage),
            classes=html.table(
                ("class", *(entry.model for entry in self.entries)), self._per_class(), notable=_NOTABLE
            ),
            left_out=f"<h2>Left out</h2>{bullets(left_out)}" if left_out else "",
            flops=escape(FLOPS),
        )

    def draw(self, path: Path) -> None:
        """Accuracy with its interval over latency; the Pareto front is a line."""
        names = [fonts.shown(entry.model) for entry in self.entries]
        with fonts.drawing([self.title, *names]):
            figure = Figure(figsize=(11, 6.5), dpi=120, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
            axes = figure.subplots()
            axes.set_title(fonts.shown(self.title), fontsize=13, parse_math=False)
            self._points(axes, names)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel("milliseconds for one text on this CPU (p50, the line to p99)", fontsize=10)
            axes.set_ylabel("accuracy, % (95 % interval)", fontsize=10)
            axes.grid(alpha=0.3, which="both")
            axes.margins(x=0.16, y=0.1)
            axes.legend(fontsize=9, loc="lower right")
            _part(figure, [each for each in axes.texts if isinstance(each, Annotation)])
            figure.savefig(path)

    def _points(self, axes: Axes, names: Sequence[str]) -> None:
        best = sorted((entry for entry in self.entries if entry.pareto), key=lambda entry: entry.p50_ms)
        axes.plot([each.p50_ms for each in best], [100 * each.accuracy for each in best], color=RED, linewidth=1.2,
                  linestyle="--", label="Pareto front", zorder=1)  # fmt: skip
        seen: set[str] = set()
        for entry, name in zip(self.entries, names, strict=True):
            colour, marker = _ROLES.get(entry.role, (GREY, "D"))
            label = None if entry.role in seen else entry.role
            seen.add(entry.role)
            middle = 100 * entry.accuracy
            axes.errorbar(entry.p50_ms, middle, yerr=[[middle - 100 * entry.low], [100 * entry.high - middle]],
                          xerr=[[0.0], [max(0.0, entry.p99_ms - entry.p50_ms)]], color=colour, marker=marker,
                          markersize=9, capsize=3, elinewidth=0.8, alpha=0.9, label=label)  # fmt: skip
            axes.annotate(name, (entry.p50_ms, middle), xytext=(6, 6), textcoords="offset points", fontsize=9,
                          fontweight="bold" if entry.pareto else "normal", parse_math=False)  # fmt: skip


def _part(figure: Figure, labels: Sequence[Annotation]) -> None:
    """Moves labels up or down that would lie on each other: a model and what was made of it are often that near."""
    figure.draw_without_rendering()  # only then is it known where they are
    placed: list[Bbox] = []
    for label in labels:
        for height in _HEIGHTS:
            label.xyann = (6, height)
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in placed):
                break
        placed.append(box)


_COLUMNS = ("model", "accuracy %", "95 % interval", "macro-F1 %", "ECE", "p50 ms", "p99 ms", "texts/s", "agreement %")
_WEIGHTS = ("model", "role", "form", "disk MB", "memory MB", "first answer s", "parameters", "zeros %", "MFLOPs a text")


def _cells(entry: Entry) -> list[str]:
    return [
        f"{entry.model}{' *' if entry.pareto else ''}",
        f"{100 * entry.accuracy:.2f}",
        f"{100 * entry.low:.1f}-{100 * entry.high:.1f}",
        f"{100 * entry.macro_f1:.2f}",
        _number(entry.ece, 3),
        f"{entry.p50_ms:.2f}",
        f"{entry.p99_ms:.2f}",
        f"{entry.texts_per_s:,.0f}",
        f"{100 * entry.agreement:.1f}",
    ]


def _weights(entry: Entry) -> list[str]:
    return [
        entry.model,
        entry.role,
        entry.form,
        _number(entry.disk_mb, 2),
        _number(entry.memory_mb, 0),
        _number(entry.first_answer_s, 2),
        _number(entry.parameters, 0),
        _number(None if entry.sparsity is None else 100 * entry.sparsity, 1),
        "not known" if entry.flops is None else f"{entry.flops / 1e6:,.3g}",
    ]


def _number(value: float | None, digits: int) -> str:
    return "not known" if value is None else f"{value:,.{digits}f}"


def _difference(first: float | None, other: float | None) -> str:
    return "" if first is None or other is None else f"{100 * (other - first):+.1f}"
