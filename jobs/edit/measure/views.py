"""Both pictures of an edit in one frame, in the sizes that measuring takes, and which pixels tell something."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from jobs.edit.asked import Operation
from jobs.edit.measure import geometry, marks, tone

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

LARGE = 256  # longest side of the copies on which marks and what was kept are measured


@dataclass(frozen=True)
class Views:
    """Both pictures in the edited one's frame, (height, width, 3)."""

    before: Floats
    after: Floats
    inside: Mask  # where the frame shows the original
    free: Mask  # where, moreover, nothing was clipped, not even before pixels were averaged

    def tell(self) -> bool:
        """Whether enough of it is free to tell the tone from."""
        return bool(self.free.sum() > max(60, 0.03 * self.inside.sum()))


def views(original: Image.Image, edited: Image.Image, frame: geometry.Frame, operations: Sequence[Operation]) -> Views:
    scale = min(1.0, LARGE / max(edited.size))
    size = (max(8, round(edited.width * scale)), max(8, round(edited.height * scale)))
    small = edited.resize(size, Image.Resampling.BOX) if size != edited.size else edited
    before, inside = frame.render(original, (original.width, original.height), size)
    if inside is None:
        mask = np.ones((size[1], size[0]), bool)
    else:
        mask = ndimage.binary_erosion(inside, iterations=2, border_value=1)
    old, new = np.asarray(before, np.float32), np.asarray(small, np.float32)
    free = mask & tone.unclipped(new)
    # what a blur or a turn came after is clipped without being at an end of the range any more
    both = free & room(old, operations)
    return Views(old, new, mask, both if both.sum() > 0.05 * mask.sum() else free)


def room(before: Floats, operations: Sequence[Operation]) -> Mask:
    """Which pixels of the original stay within the range when what is asked of light and contrast is done."""
    mean = float(tone.luma(before).mean())
    wanted, slope = tone.expected(operations, mean)
    return tone.unclipped(wanted + slope * (before - mean))


def only(views: Views, where: Mask) -> Views:
    return Views(views.before, views.after, views.inside & where, views.free & where)


def smaller(views: Views, side: int) -> Views:
    """Averaged over whole blocks."""
    step = max(1, math.ceil(max(views.inside.shape) / side))
    return blocks(views, min(step, min(views.inside.shape) // 8))


def blocks(views: Views, step: int) -> Views:
    if step <= 1:
        return views
    height, width = (side // step * step for side in views.inside.shape)
    places = [(slice(y, height, step), slice(x, width, step)) for y in range(step) for x in range(step)]

    def mean(values: Floats) -> Floats:
        total = values[places[0]].copy()  # several times as fast as reshaping and reducing over the short axes
        for place in places[1:]:
            total += values[place]
        return np.asarray(total / len(places), np.float32)

    inside, free = (np.logical_and.reduce([mask[place] for place in places]) for mask in (views.inside, views.free))
    return Views(mean(views.before), mean(views.after), inside, free)


def lifted(views: Views, shade: marks.Shade) -> Views:
    """With the vignette that was found taken off the edited picture again."""
    over = shade.over(*views.inside.shape)[..., None]
    return Views(views.before, np.minimum(views.after / over, 255), views.inside, views.free)


def resized(mask: Mask, shape: tuple[int, ...], whole: bool = False) -> Mask:
    """On a coarser grid: where any, or all, of the mask is."""
    share = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((shape[1], shape[0]), Image.Resampling.BOX))
    return share == 255 if whole else share > 0
