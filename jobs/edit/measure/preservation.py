"""Measures how much of the picture was kept, once what was asked is undone.

Structure: SSIM (Wang, Bovik, Sheikh, Simoncelli 2004; scikit-image's) of the luma, in the edited picture's frame, with
the original's tone matched by a straight line where a change of tone was asked; times the correlation of the two, since
SSIM forgives a smooth picture that was painted over in one colour. Colour: the mean distance in chroma
that a linear map from the original does not explain; only where a change of colour was asked may that map mix colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from jobs.edit import asked
from jobs.edit.asked import Operation
from jobs.edit.measure.geometry import correlation
from jobs.edit.measure.tone import chroma, fit, luma

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_TOLERATED = 2.0  # levels of chroma that JPEG and rounding move
_SPOILT = 25.0  # levels beyond that, at which the colour counts for a third


@dataclass(frozen=True)
class Kept:
    share: float  # 0-1
    similarity: float  # SSIM
    alike: float  # correlation
    off: float  # levels of chroma

    @property
    def words(self) -> str:
        how = "well kept" if self.share > 0.85 else "partly kept" if self.share > 0.5 else "hardly kept"
        figures = f"SSIM {self.similarity:.2f}, correlation {self.alike:.2f}, colours off by {self.off:.0f} of 255"
        return f"the rest is {how} ({figures})"


def kept(
    before: Floats, after: Floats, inside: Mask, free: Mask, operations: Sequence[Operation], slope: float
) -> Kept:
    """before, after: (height, width, 3) in one frame; inside: what is compared; free: what of it was not clipped;
    slope: of the luma, as was asked.

    Fits are bounded by what was asked (half to twice its slope), so that a picture painted over in one colour is not
    explained by a contrast of zero.
    """
    lumas, new = luma(before), luma(after)
    toned = _any(operations, asked.Light, asked.Contrast, *asked.COLOUR)
    gain = 1.0
    if toned:
        free = free if free.sum() > 50 else inside
        found = fit(lumas[free], new[free]).slope
        gain = math.copysign(min(max(abs(found), abs(slope) / 2), abs(slope) * 2), found)
        offset = float(new[free].mean() - gain * lumas[free].mean())
        lumas = np.clip(gain * lumas + offset, 0, 255)
    similarity = _similarity(lumas, new, inside)
    alike = correlation(lumas[inside], new[inside]) if lumas[inside].std() > 1 else 1.0
    off = _off(before[inside], after[inside], free[inside], gain, _any(operations, *asked.COLOUR))
    tolerated = _TOLERATED + 4 * toned  # what is clipped, and curves that are no straight lines
    for operation in operations:
        if isinstance(operation, asked.Posterize):
            tolerated += 0.4 * 255 / (operation.levels - 1)
        elif isinstance(operation, asked.Tint):  # light and dark take on a colour in many ways
            tolerated += 6
    if _any(operations, asked.Posterize):  # its steps are new edges, which SSIM punishes in a smooth sky
        similarity = max(similarity, alike)
    colour = math.exp(-max(0.0, off - tolerated) / _SPOILT)
    return Kept(max(0.0, similarity) * max(0.0, alike) * colour, similarity, alike, off)


def _any(operations: Sequence[Operation], *kinds: type[Operation]) -> bool:
    return any(isinstance(operation, kinds) for operation in operations)


def _similarity(before: Floats, after: Floats, inside: Mask) -> float:
    window = min(7, *(side - 1 + side % 2 for side in before.shape))
    _, each = structural_similarity(before, after, data_range=255.0, win_size=window, full=True)  # type: ignore[no-untyped-call]
    return float(each[inside].mean())


def _off(before: Floats, after: Floats, free: Mask, gain: float, recoloured: bool) -> float:
    """Mean distance in chroma, in levels. Pixels (n, 3)."""
    if free.sum() > 50:
        before, after = before[free], after[free]
    old, new = chroma(before), chroma(after)
    if not recoloured:
        return float(np.abs(new - abs(gain) * old).mean())
    design = np.column_stack([before, np.ones(len(before), np.float32)])
    target = np.column_stack([new.real, new.imag])
    weights, *_ = np.linalg.lstsq(design.T @ design + 1e-3 * np.eye(4), design.T @ target, rcond=None)
    return float(np.linalg.norm(target - design @ weights, axis=1).mean())
