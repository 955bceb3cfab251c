"""The picture of a training: loss, validation, learning rate, gradient norm, and where the time went."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from jobs.training import fonts
from jobs.training.record import Record
from jobs.training.summary import metrics_of, shares, whole

# Okabe and Ito's colours, which stay apart for the colour-blind; lines differ by their markers too.
BLUE, ORANGE, GREEN, RED, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666"
_LINES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PINK, "D"))
_EVENTS, _EVENT_CHARACTERS = 6, 110


def draw(path: Path, record: Record, title: str, first: str | None = None) -> None:
    """A PNG of 1500 x 1350 pixels. `first`: the metric that decided; without it the first of the record's."""
    title = _cut(fonts.shown(title), 90)
    with fonts.drawing((title,)):
        figure = _figure(record, title, first)
        figure.savefig(path)


def _figure(record: Record, title: str, first: str | None) -> Figure:
    figure = Figure(figsize=(12, 10.8), dpi=125, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    figure.suptitle(title, fontsize=15, parse_math=False)
    (loss, metric), (rate, norm), (time, events) = figure.subplots(
        3, 2, gridspec_kw={"height_ratios": [1.25, 0.8, 0.8]}
    )
    steps = [point.step for point in record.points]
    _curve(loss, record, "Training loss", "loss per target", steps, [point.loss for point in record.points])
    _rises(loss, record)
    _metrics(metric, record, first)
    _curve(rate, record, "Learning rate", "learning rate", steps, [point.rate for point in record.points])
    norms = [(point.step, point.norm) for point in record.points if point.norm is not None]
    _curve(norm, record, "Gradient norm before clipping", "L2 norm", *(list(each) for each in zip(*norms, strict=True)))
    _spread(norm, [each for _, each in norms])
    _time(time, record)
    _events(events, record)
    return figure


def _curve(
    axes: Axes, record: Record, title: str, unit: str, steps: Sequence[int] = (), values: Sequence[float] = ()
) -> None:
    _name(axes, title, "optimisation step", unit)
    if not steps:
        _nothing(axes)
        return
    finite = [value if math.isfinite(value) else math.nan for value in values]  # a gap in the line
    axes.plot(steps, finite, color=BLUE, linewidth=1.4, marker="." if len(steps) < 60 else None)
    if bad := [step for step, value in zip(steps, values, strict=True) if not math.isfinite(value)]:
        axes.plot(bad, [0.03] * len(bad), "x", color=RED, transform=axes.get_xaxis_transform(), label="not finite")
    _resumes(axes, record.resumed)
    axes.set_xlim(left=0, right=1.02 * max(record.steps, *steps))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=9, loc="upper right")


def _rises(axes: Axes, record: Record) -> None:
    """A loss that falls by much, or explodes, is read on a logarithmic axis."""
    _spread(axes, [point.loss for point in record.points], ratio=30)


def _spread(axes: Axes, values: Iterable[float], ratio: float = 20) -> None:
    found = [value for value in values if math.isfinite(value)]
    if found and min(found) > 0 and max(found) > ratio * min(found):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _resumes(axes: Axes, resumed: Sequence[float]) -> None:
    for number, step in enumerate(resumed):
        label = f"resumed ({len(resumed)})" if number == 0 else None
        axes.axvline(step, color=GREY, linestyle="--", linewidth=0.9, label=label, zorder=0)


def _metrics(axes: Axes, record: Record, first: str | None) -> None:
    """Up to four metrics of the same scale as the first; its best epoch is marked."""
    _name(axes, "Validation", "epoch", "")
    names = metrics_of(record)
    if first in names:
        names = [first, *(name for name in names if name != first)]
    if not names:
        _nothing(axes)
        return
    shown = [name for name in names if _alike(record, names[0], name)][: len(_LINES)]
    axes.set_ylabel(names[0] if len(shown) == 1 else "metrics", fontsize=9, parse_math=False)
    for name, (colour, marker) in zip(shown, _LINES, strict=False):
        numbers = [entry["epoch"] for entry in record.epochs if name in entry]
        values = [entry[name] for entry in record.epochs if name in entry]
        axes.plot(numbers, values, color=colour, marker=marker, markersize=4, linewidth=1.4, label=_literal(name))
    best = max((entry for entry in record.epochs if math.isfinite(entry.get(names[0], math.nan))),
               key=lambda entry: entry[names[0]], default=None)  # fmt: skip
    if best:
        axes.plot(best["epoch"], best[names[0]], "*", color=RED, markersize=14, zorder=3,
                  label=_literal(f"best {names[0]}: {best[names[0]]:.4g}, epoch {best['epoch']:g}"))  # fmt: skip
    numbers = [entry["epoch"] for entry in record.epochs]
    axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + (0.1 + 0.08 * len(shown)) * (top - bottom))  # room for the legend
    axes.legend(fontsize=9, loc="upper left", ncols=2)


def _alike(record: Record, first: str, name: str) -> bool:
    """Whether both fit on one axis: a perplexity of 300 would flatten an accuracy."""

    def largest(metric: str) -> float:
        return max((abs(entry[metric]) for entry in record.epochs if math.isfinite(entry.get(metric, math.nan))),
                   default=0.0)  # fmt: skip

    return largest(first) / 5 <= largest(name) <= largest(first) * 5


def _time(axes: Axes, record: Record) -> None:
    _name(axes, "Where the time went", "seconds", "")
    found = list(shares(record))
    if not found:
        _nothing(axes)
        return
    names, seconds, parts = zip(*reversed(found), strict=True)
    bars = axes.barh([_literal(name) for name in names], seconds, color=BLUE, height=0.65)
    said = [f"{part:.0%}" if part >= 0.005 else "<1%" for part in parts]
    labels = [f"{whole(second)} s, {share}" for second, share in zip(seconds, said, strict=True)]
    axes.bar_label(bars, labels, padding=4, fontsize=9)
    axes.set_xlim(right=max(max(seconds) * 1.3, 1e-9))
    axes.grid(visible=False, axis="y")


def _events(axes: Axes, record: Record) -> None:
    axes.set_axis_off()
    axes.set_title("Events", fontsize=11, loc="left")
    resumed = f"resumed from step {', '.join(map(str, record.resumed))}" if record.resumed else ""
    lines = [_cut(line, _EVENT_CHARACTERS) for line in filter(None, (resumed, *record.events[:_EVENTS]))]
    if len(record.events) > _EVENTS:
        lines.append(f"and {len(record.events) - _EVENTS} more: report.md")
    said = "\n".join(f"{_wrapped(line)}" for line in lines) or "none"
    axes.text(0, 0.97, said, va="top", fontsize=9, transform=axes.transAxes, parse_math=False, linespacing=1.4)


def _name(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    axes.tick_params(labelsize=9)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "nothing was recorded", ha="center", va="center", color=GREY, transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def _wrapped(line: str, width: int = 76) -> str:
    return "\n    ".join(textwrap.wrap(line, width))


def _literal(name: Any) -> str:
    """Names are never formulas, and a leading underscore would hide a legend's entry."""
    return str(name).replace("$", r"\$").lstrip("_")


def _cut(text: str, characters: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"
