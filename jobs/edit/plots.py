"""The plots of a run as SVG for a page: its text is text, and its ink takes the page's colour, light or dark."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from jobs.training.curves import ORANGE

_INK = "#010203"  # drawn nowhere else: becomes the page's own colour
_BLUE = "#3a8fc7"  # between Okabe and Ito's two: seen on white and on black
_BINS = 20
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gristmill",  # the same scores give the same file
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "font.size": 9,
}


def distribution(name: str, scores: Sequence[float], figures: Mapping[str, Any], scale: tuple[float, float]) -> str:
    """One category: how many pairs have which score; the mean as a line, its 95 % interval as a band."""

    def paint(axes: Axes) -> None:
        axes.hist(np.asarray(scores), bins=np.linspace(*scale, _BINS + 1).tolist(), color=_BLUE)
        if (found := figures["mean_interval_95"]) is not None:
            axes.axvspan(*found, color=ORANGE, alpha=0.35, linewidth=0, zorder=0)
        if figures["mean"] is not None:
            axes.axvline(figures["mean"], color=ORANGE, linewidth=1.6)
        axes.set_xlim(*scale)
        axes.set_xlabel("score")
        axes.set_ylabel("pairs")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))

    return _svg(paint, (4.2, 1.9), f"{name}: distribution of {len(scores)} scores")


def intervals(figures: Mapping[str, tuple[float, tuple[float, float] | None]], label: str, zero: bool = False) -> str:
    """Means, or mean differences, with their intervals, a line for each name; `zero`: with a line at no difference."""
    names = list(figures)

    def paint(axes: Axes) -> None:
        for place, (middle, found) in enumerate(figures.values()):
            low, high = found or (middle, middle)
            axes.errorbar(middle, place, xerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]], color=_BLUE,
                          marker="o", markersize=5, capsize=3)  # fmt: skip
        if zero:
            axes.axvline(0, color=_INK, linewidth=0.8, linestyle="--")
        axes.set_yticks(range(len(names)), [_cut(name) for name in names], parse_math=False)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.25)

    return _svg(paint, (4.6, 0.75 + 0.26 * len(names)), f"{label}, with 95 % intervals")


def _svg(paint: Any, inches: tuple[float, float], title: str) -> str:
    """An <svg> element that scales to its container and is named for those who do not see it."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has the letters that our font lacks
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        figure = Figure(figsize=inches, layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03))
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        paint(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    text = out.getvalue()
    text = re.sub(
        r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r'<svg \1role="img"', text[text.index("<svg") :], count=1
    )
    return text.replace(_INK, "currentColor")


def _cut(name: str, characters: int = 28) -> str:
    return name if len(name) <= characters else f"{name[: characters - 1]}…"
