"""Plots as SVG for a page: their text is text, and their ink takes the page's colour, light or dark."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK = "#010203"  # drawn nowhere else: becomes the page's own colour
BLUE = "#3a8fc7"  # between Okabe and Ito's two: seen on white and on black
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gristmill",  # the same figures give the same file
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 9,
}


def intervals(
    figures: Mapping[str, tuple[float, tuple[float, float] | None]], label: str, zero: bool = False, bars: bool = False
) -> str:
    """Means, or mean differences, with their intervals, a line for each name.

    zero: with a line at no difference. bars: from zero to each mean.
    """
    names = list(figures)

    def paint(axes: Axes) -> None:
        for place, (middle, found) in enumerate(figures.values()):
            low, high = found or (middle, middle)
            axes.errorbar(middle, place, xerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]], color=BLUE,
                          marker="o", markersize=5, capsize=3)  # fmt: skip
        if bars:
            axes.barh(range(len(names)), [middle for middle, _ in figures.values()], 0.6, color=BLUE, alpha=0.35)
        if zero:
            axes.axvline(0, color=INK, linewidth=0.8, linestyle="--")
        axes.set_yticks(range(len(names)), [_cut(name) for name in names], parse_math=False)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.25)

    return svg(paint, (4.6, 0.75 + 0.26 * len(names)), f"{label}, with 95 % intervals")


def svg(paint: Callable[[Axes], None], inches: tuple[float, float], title: str) -> str:
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
    return text.replace(INK, "currentColor")


def _cut(name: str, characters: int = 28) -> str:
    return name if len(name) <= characters else f"{name[: characters - 1]}…"
