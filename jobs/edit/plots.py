"""The plots of a run that only its page has: how the scores of a category are distributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from jobs.training.curves import ORANGE
from jobs.training.plots import BLUE, svg

_BINS = 20


def distribution(name: str, scores: Sequence[float], figures: Mapping[str, Any], scale: tuple[float, float]) -> str:
    """One category: how many pairs have which score; the mean as a line, its 95 % interval as a band."""

    def paint(axes: Axes) -> None:
        axes.hist(np.asarray(scores), bins=np.linspace(*scale, _BINS + 1).tolist(), color=BLUE)
        if (found := figures["mean_interval_95"]) is not None:
            axes.axvspan(*found, color=ORANGE, alpha=0.35, linewidth=0, zorder=0)
        if figures["mean"] is not None:
            axes.axvline(figures["mean"], color=ORANGE, linewidth=1.6)
        axes.set_xlim(*scale)
        axes.set_xlabel("score")
        axes.set_ylabel("pairs")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))

    return svg(paint, (4.2, 1.9), f"{name}: distribution of {len(scores)} scores")
