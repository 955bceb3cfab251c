"""Measures one edit: brings both pictures into one frame, asks of each operation what came of it, and what was kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from jobs.edit import asked
from jobs.edit.asked import Operation
from jobs.edit.measure import detail, geometry, marks, preservation, tone
from jobs.edit.measure.finding import Finding, Unmeasurable, together

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SMALLEST = 16  # pixels a side, below which nothing is measured
_TONE = 96  # longest side of the copies on which tone is measured: fine detail does not matter there
_LARGE = 256  # and of those on which marks and what was kept are
_DETAIL = 384  # side of the middle piece on which blur is measured, at full resolution


@dataclass(frozen=True)
class Measured:
    adherence: float  # 0-1
    preservation: float  # 0-1
    words: str


@dataclass(frozen=True)
class Views:
    """Both pictures in the edited one's frame, (height, width, 3)."""

    before: Floats
    after: Floats
    inside: Mask  # where the frame shows the original
    free: Mask  # where, moreover, nothing was clipped, not even before pixels were averaged


def measure(original: Image.Image, edited: Image.Image, operations: Sequence[Operation]) -> Measured:
    """Raises Unmeasurable, with the reason, where the pictures cannot show what came of an operation."""
    for name, image in (("original", original), ("edited picture", edited)):
        if min(image.size) < _SMALLEST:
            raise Unmeasurable(f"the {name} of {image.width} x {image.height} pixels is too small: 16 x 16 at least")
    aligned = geometry.align(original, edited, operations)
    large = _views(original, edited, aligned.frame, operations)
    small = _smaller(large, _TONE)
    findings = dict(aligned.findings)
    found_shade = None
    for place, operation in enumerate(operations):
        if isinstance(operation, asked.Vignette):
            found_shade = marks.shade(small.before, small.after, small.inside)
            findings[place] = marks.shaded(found_shade, operation)
    if found_shade:
        small, large = _lifted(small, found_shade), _lifted(large, found_shade)
    large, drawn = _without_texts(large, small, operations, findings)
    if drawn is not None:
        small = _only(small, ~_resized(drawn, small.inside.shape))
    if small.inside.sum() < 64:
        raise Unmeasurable("too little of the original is left in the edited picture")
    views = _smoothed(large, operations, edited.width, aligned.frame.size[0])
    tones = _tones(views if _blurred(operations) else small, large, operations)
    for place, operation in enumerate(operations):
        if (finding := tones.finding(place)) is not None:
            findings[place] = finding
        elif isinstance(operation, asked.Posterize):
            findings[place] = tone.posterized(large.before[large.inside], large.after[large.inside], operation)
    _details(original, edited, aligned, operations, findings, drawn)
    _, slope = tones.expected()
    rest = preservation.kept(views.before, views.after, views.inside, views.free, operations, slope)
    stretch = abs(math.log(aligned.stretched))
    share = rest.share * (math.exp(-2 * stretch) if stretch > 0.03 else 1.0)
    said = [findings[place] for place in sorted(findings)]
    return Measured(together(said), share, _words(said, rest.words, aligned))


def _words(findings: Sequence[Finding], rest: str, aligned: geometry.Alignment) -> str:
    done = "; ".join(finding.words for finding in findings)
    if not aligned.found:
        rest = f"the edited picture hardly shows the original: {rest}"
    if abs(math.log(aligned.stretched)) > 0.03:
        rest += f", and the picture is stretched by {aligned.stretched:.2f}"
    return f"{done[0].upper()}{done[1:]}. {rest[0].upper()}{rest[1:]}."


def _views(original: Image.Image, edited: Image.Image, frame: geometry.Frame, operations: Sequence[Operation]) -> Views:
    scale = min(1.0, _LARGE / max(edited.size))
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
    mean = float(tone.luma(old).mean())
    wanted, slope = tone.expected(operations, mean)
    room = free & tone.unclipped(wanted + slope * (old - mean))
    return Views(old, new, mask, room if room.sum() > 0.05 * mask.sum() else free)


def _blurred(operations: Sequence[Operation]) -> bool:
    return any(isinstance(operation, asked.Blur) for operation in operations)


def _only(views: Views, where: Mask) -> Views:
    return Views(views.before, views.after, views.inside & where, views.free & where)


def _tones(small: Views, large: Views, operations: Sequence[Operation]) -> tone.Tone:
    """On the small copies, or where next to all of their pixels have something clipped in them, on the large ones."""
    for views in (small, large):
        free = views.free[views.inside]
        if free.sum() > max(200, 0.03 * free.size):
            return tone.Tone(views.before[views.inside], views.after[views.inside], free, operations)
    everything = np.ones(int(small.inside.sum()), np.bool_)
    return tone.Tone(small.before[small.inside], small.after[small.inside], everything, operations)


def _smaller(views: Views, side: int) -> Views:
    """Averaged over whole blocks."""
    step = max(1, math.ceil(max(views.inside.shape) / side))
    return _blocks(views, min(step, min(views.inside.shape) // 8))


def _blocks(views: Views, step: int) -> Views:
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


def _lifted(views: Views, shade: marks.Shade) -> Views:
    """With the vignette that was found taken off the edited picture again."""
    over = shade.over(*views.inside.shape)[..., None]
    return Views(views.before, np.minimum(views.after / over, 255), views.inside, views.free)


def _without_texts(
    large: Views, small: Views, operations: Sequence[Operation], findings: dict[int, Finding]
) -> tuple[Views, Mask | None]:
    """Finds the marks of texts, and leaves those at their places out of what is compared afterwards."""
    texts = {place: operation for place, operation in enumerate(operations) if isinstance(operation, asked.Write)}
    if not texts:
        return large, None
    expected = large.before
    if len(operations) > len(texts):  # else a pixel should be what it was
        expected = _predicted(large, small)
    found = marks.marks(expected, large.after, large.inside)
    drawn = np.zeros_like(large.inside)
    for place, operation in texts.items():
        findings[place] = marks.written(found, operation)
        drawn |= found.within(operation)
    if drawn.mean() > 0.4:  # no text covers so much: it counts as damage
        return large, None
    drawn = ndimage.binary_dilation(drawn, iterations=3)
    return _only(large, ~drawn), drawn


def _predicted(large: Views, small: Views) -> Floats:
    """The original with the tones that most of the edited picture has: a linear map of colours, fitted twice."""
    before, after = small.before[small.inside], small.after[small.inside]
    design = np.column_stack([before, np.ones(len(before), np.float32)])
    keep = np.ones(len(before), bool)
    weights: NDArray[np.floating] = np.zeros((4, 3))
    for _ in range(3):
        weights = np.linalg.lstsq(design[keep], after[keep], rcond=None)[0]
        error = tone.largest(np.abs(np.asarray(design @ weights - after, np.float32)))
        keep = error <= max(float(np.quantile(error, 0.8)), 2.0)
    flat = np.column_stack([large.before.reshape(-1, 3), np.ones(large.inside.size, np.float32)])
    return np.clip(flat @ weights, 0, 255).reshape(large.before.shape).astype(np.float32)


def _details(
    original: Image.Image,
    edited: Image.Image,
    aligned: geometry.Alignment,
    operations: Sequence[Operation],
    findings: dict[int, Finding],
    drawn: Mask | None,
) -> None:
    """Blur and sharpness, on the middle of the pictures at the edited one's own resolution."""
    for place, operation in enumerate(operations):
        if not isinstance(operation, asked.Blur | asked.Sharpen):
            continue
        pixels = _pixels(operations, place, edited.width / aligned.frame.size[0])
        step = max(1, min(int(pixels / 2.5), min(edited.size) // 24))  # a large blur leaves little to see at full size
        before, after = _middle(original, edited, aligned.frame, step, drawn)
        levels = [other.levels for other in operations if isinstance(other, asked.Posterize)]
        spectra = detail.Spectra(before, after, 255 / (min(levels) - 1) if levels else 1.0)
        if isinstance(operation, asked.Blur):
            findings[place] = detail.blurred(spectra, operation, pixels / step)
        else:
            findings[place] = detail.sharpened(spectra, operation)


def _middle(
    original: Image.Image, edited: Image.Image, frame: geometry.Frame, step: int, drawn: Mask | None
) -> tuple[Floats, Floats]:
    """Luma of both, one pixel for `step` of the edited picture's; what is not the original's has the mean in both."""
    width, height = edited.size
    part = (min(width, _DETAIL * step), min(height, _DETAIL * step))
    left, top = (width - part[0]) // 2, (height - part[1]) // 2
    box = (left, top, left + part[0], top + part[1])
    across, down = frame.size[0] / width, frame.size[1] / height
    shift = np.array([[1, 0, left * across], [0, 1, top * down], [0, 0, 1.0]])
    piece = geometry.Frame(frame.matrix @ shift, (part[0] * across, part[1] * down), frame.inside)
    rendered, inside = piece.render(original.convert("L"), (original.width, original.height), part)
    before, after = (np.array(image.reduce(step), np.float32) for image in (rendered, edited.crop(box).convert("L")))
    out = np.zeros(before.shape, bool)
    if inside is not None:
        out |= ~ndimage.binary_erosion(_resized(inside, before.shape, whole=True), iterations=2, border_value=1)
    if drawn is not None:
        places = Image.fromarray(drawn).resize(edited.size, Image.Resampling.NEAREST).crop(box)
        out |= _resized(np.asarray(places), before.shape)
    if out.any() and not out.all():
        before[out], after[out] = before[~out].mean(), after[~out].mean()
    return before, after


def _smoothed(large: Views, operations: Sequence[Operation], width: int, frame: float) -> Views:
    """So small that a blur or a sharpening that was asked is not seen any more, and of 160 pixels at most."""
    step = max(1, round(max(large.inside.shape) / 160))
    for place, operation in enumerate(operations):
        if isinstance(operation, asked.Blur):
            step = max(step, round(2 * _pixels(operations, place, width / frame) * large.inside.shape[1] / width))
        elif isinstance(operation, asked.Sharpen | asked.Posterize):
            step = max(step, 2 if isinstance(operation, asked.Sharpen) else 4)
    return _blocks(large, max(1, min(step, min(large.inside.shape) // 12)))


def _pixels(operations: Sequence[Operation], place: int, per_pixel: float) -> float:
    """A blur in the edited picture's pixels. What was asked after resizing is in these already."""
    operation = operations[place]
    if not isinstance(operation, asked.Blur):
        return 1.0
    resized = any(isinstance(other, asked.Resize) for other in operations[:place])
    return operation.pixels * (1.0 if resized else per_pixel)


def _resized(mask: Mask, shape: tuple[int, ...], whole: bool = False) -> Mask:
    """On a coarser grid: where any, or all, of the mask is."""
    share = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((shape[1], shape[0]), Image.Resampling.BOX))
    return share == 255 if whole else share > 0
