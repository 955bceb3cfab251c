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
from jobs.edit.measure import conflicts, detail, geometry, marks, preservation, tone
from jobs.edit.measure.finding import Finding, Unmeasurable, together
from jobs.edit.measure.views import Views, blocks, lifted, only, resized, room, smaller, views

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SMALLEST = 16  # pixels a side, below which nothing is measured
_TONE = 96  # longest side of the copies on which tone is measured: fine detail does not matter there
_DETAIL = 384  # side of the middle piece on which blur is measured, at full resolution


@dataclass(frozen=True)
class Measured:
    adherence: float  # 0-1
    preservation: float  # 0-1
    words: str


def measure(original: Image.Image, edited: Image.Image, operations: Sequence[Operation]) -> Measured:
    """Raises Unmeasurable, with the reason, where the pictures cannot show what came of an operation."""
    conflicts.check(operations)
    small_asked = any(isinstance(operation, asked.Crop | asked.Resize) for operation in operations)
    for name, image in (("original", original), ("edited picture", edited)):
        if min(image.size) < _SMALLEST:
            words = f"the {name} has {image.width} x {image.height} pixels"
            if image is edited and not small_asked and min(original.size) >= _SMALLEST:
                return Measured(0.0, 0.0, f"T{words[1:]}: nothing of the original can be seen in it.")
            raise Unmeasurable(f"{words}: at least 16 x 16 are measured")
    aligned = geometry.align(original, edited, operations)
    large = views(original, edited, aligned.frame, operations)
    small = smaller(large, _TONE)
    findings = dict(aligned.findings)
    found_shade = None
    for place, operation in enumerate(operations):
        if isinstance(operation, asked.Vignette):
            inverted = any(isinstance(other, asked.Invert) for other in operations)
            found_shade = marks.shade(255 - small.before if inverted else small.before, small.after, small.inside)
            findings[place] = marks.shaded(found_shade, operation)
    if found_shade:
        small, large = lifted(small, found_shade), lifted(large, found_shade)
    large, drawn = _without_texts(large, small, operations, findings, large.inside.shape[1] / aligned.frame.size[0])
    if drawn is not None:
        small = only(small, ~resized(drawn, small.inside.shape))
    if small.inside.sum() < 64:
        raise Unmeasurable("too little of the original is left in the edited picture")
    smoothed = _smoothed(large, operations, edited.width, aligned.frame.size[0])
    if any(isinstance(operation, asked.Blur) for operation in operations):
        _told_apart(large, smoothed, operations)
        tones = _tones(smoothed, smoothed, operations)
    else:
        tones = _tones(small, large, operations)
    for place, operation in enumerate(operations):
        if (finding := tones.finding(place)) is not None:
            findings[place] = finding
        elif isinstance(operation, asked.Posterize):
            findings[place] = tone.posterized(large.before[large.inside], large.after[large.inside], operation)
    _details(original, edited, aligned, operations, findings, drawn)
    _, slope = tones.expected()
    rest = preservation.kept(smoothed.before, smoothed.after, smoothed.inside, smoothed.free, operations, slope)
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


def _tones(small: Views, large: Views, operations: Sequence[Operation]) -> tone.Tone:
    """On the small copies, or where next to all of their pixels have something clipped in them, on the large ones."""
    views = small if small.tell() or not large.tell() else large
    free = views.free[views.inside] if views.tell() else np.ones(int(views.inside.sum()), np.bool_)
    return tone.Tone(views.before[views.inside], views.after[views.inside], free, operations)


def _without_texts(
    large: Views, small: Views, operations: Sequence[Operation], findings: dict[int, Finding], per_pixel: float
) -> tuple[Views, Mask | None]:
    """Finds the marks of texts, and leaves those at their places out of what is compared afterwards."""
    texts = {place: operation for place, operation in enumerate(operations) if isinstance(operation, asked.Write)}
    if not texts:
        return large, None
    expected = large.before
    if len(operations) > len(texts):  # else a pixel should be what it was
        expected = _predicted(large, small)
        for place, operation in enumerate(operations):
            if isinstance(operation, asked.Blur):  # the letters are looked for on a picture as soft as it should be
                pixels = _pixels(operations, place, per_pixel)
                expected = ndimage.gaussian_filter(expected, (pixels, pixels, 0))
    found = marks.marks(expected, large.after, large.inside)
    drawn = np.zeros_like(large.inside)
    for place, operation in texts.items():
        findings[place] = marks.written(found, operation)
        drawn |= found.within(operation)
    if drawn.mean() > 0.4:  # no text covers so much: it counts as damage
        return large, None
    drawn = ndimage.binary_dilation(drawn, iterations=3)
    return only(large, ~drawn), drawn


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
    piece = frame.part(left * across, top * down, part[0] * across, part[1] * down)
    rendered, inside = piece.render(original.convert("L"), (original.width, original.height), part)
    before, after = (np.array(image.reduce(step), np.float32) for image in (rendered, edited.crop(box).convert("L")))
    out = np.zeros(before.shape, bool)
    if inside is not None:
        out |= ~ndimage.binary_erosion(resized(inside, before.shape, whole=True), iterations=2, border_value=1)
    if drawn is not None:
        places = Image.fromarray(drawn).resize(edited.size, Image.Resampling.NEAREST).crop(box)
        out |= resized(np.asarray(places), before.shape)
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
    return blocks(large, max(1, min(step, min(large.inside.shape) // 12)))


def _told_apart(large: Views, smoothed: Views, operations: Sequence[Operation]) -> None:
    """Raises Unmeasurable where what is asked of the light clips so much that a blur after it hides by how much."""
    if not any(isinstance(operation, asked.Light | asked.Contrast) for operation in operations):
        return
    stays = Views(large.before, large.before, large.inside, room(large.before, operations))
    if not blocks(stays, large.inside.shape[0] // smoothed.inside.shape[0]).tell():
        raise Unmeasurable("so much of the original would be clipped that light cannot be measured after a blur")


def _pixels(operations: Sequence[Operation], place: int, per_pixel: float) -> float:
    """A blur in the edited picture's pixels. What was asked after resizing is in these already."""
    operation = operations[place]
    if not isinstance(operation, asked.Blur):
        return 1.0
    resized = any(isinstance(other, asked.Resize) for other in operations[:place])
    return operation.pixels * (1.0 if resized else per_pixel)
