"""The confusion matrix of a classifier: as a picture, and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from jobs.training import fonts
from jobs.training.summary import table

_COUNTED = 25  # classes: with more, a count no longer fits its cell
_NAME = 24  # characters of a class
_PAIRS = 10


@dataclass(frozen=True)
class Confusion:
    """How many of each true class (row) were taken for each class (column), on which split."""

    table: Sequence[Sequence[int]]  # (C, C)
    classes: Sequence[str]
    split: str

    def json(self) -> dict[str, Any]:
        return {"split": self.split, "classes": list(self.classes), "table": [list(row) for row in self.table]}

    def pairs(self) -> Iterator[tuple[str, str, int]]:
        """True class, taken for, how often: the most frequent first."""
        counts = np.array(self.table)
        np.fill_diagonal(counts, 0)
        for place in np.argsort(-counts, axis=None, kind="stable")[:_PAIRS]:
            row, column = divmod(int(place), len(counts))
            if counts[row, column]:
                yield self.classes[row], self.classes[column], int(counts[row, column])

    def markdown(self) -> str:
        """How each class is found, and which are taken for which."""
        counts = np.array(self.table)
        hits, true, taken = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
        rows = [
            (str(n), name, f"{true[n]:,}", _share(hits[n], taken[n]), _share(hits[n], true[n]),
             _share(2 * hits[n], taken[n] + true[n]))
            for n, name in enumerate(self.classes)
        ]  # fmt: skip
        classes = table(("id", "class", "texts", "precision", "recall", "F1"), rows)
        confused = table(("true class", "taken for", "times"), [(one, two, f"{n:,}") for one, two, n in self.pairs()])
        parts = [
            f"## Classes on {self.split}",
            classes,
            *(("Most often taken for another:", confused) if confused else ()),
        ]
        return "\n\n".join(parts) + "\n"

    def draw(self, path: Path, title: str) -> None:
        """A PNG that grows with the classes, from 2 to 100: rows in shares of their class, with counts where they fit.

        Classes whose names no font here can draw are numbers, which the report's table explains.
        """
        counts = np.array(self.table)
        count = len(counts)
        side = min(22.0, max(6.0, 3 + 0.52 * count))
        written = [_cut(fonts.shown(title), int(side * 9)), *self.classes]
        with fonts.drawing(written):
            figure = Figure(figsize=(side + 1, side), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
            axes = figure.subplots()
            right, total = int(np.trace(counts)), int(counts.sum())
            said = f"{self.split}: {right:,} of {total:,} right ({right / max(1, total):.1%})"
            axes.set_title(f"{written[0]}\n{said}", fontsize=13, parse_math=False)
            shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
            # By the square root: a confusion of one in a hundred is seen beside a diagonal of nine in ten.
            image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
            figure.colorbar(image, ax=axes, shrink=0.7, format="{x:.0%}").set_label("share of the true class")
            self._ticks(axes, min(10.0, 36 * side / count))
            if count <= _COUNTED:
                _counts(axes, counts, shares)
            figure.savefig(path)

    def _ticks(self, axes: Axes, size: float) -> None:
        count = len(self.classes)
        names = [str(n) if fonts.lacks(name) else _cut(name, _NAME) for n, name in enumerate(self.classes)]
        axes.set_xticks(range(count), names, fontsize=size, rotation=90 if count > 4 else 0, parse_math=False)
        axes.set_yticks(range(count), names, fontsize=size, parse_math=False)
        axes.set_xlabel("taken for", fontsize=10)
        axes.set_ylabel("true class", fontsize=10)
        axes.tick_params(length=0)
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
        axes.spines[:].set_visible(False)


def _counts(axes: Axes, counts: np.ndarray[Any, Any], shares: np.ndarray[Any, Any]) -> None:
    longest = len(str(counts.max(initial=0)))
    size = min(11.0, 30.0 / longest) if len(counts) <= 12 else min(9.0, 24.0 / longest)
    for (row, column), number in np.ndenumerate(counts):
        if number:
            colour = "white" if shares[row, column] > 0.3 else "black"
            axes.text(column, row, str(number), ha="center", va="center", fontsize=size, color=colour)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"


def _cut(text: str, characters: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"
