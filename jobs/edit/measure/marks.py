"""Measures what was laid over a picture: a text at its place, and the shade of a vignette."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jobs.edit.asked import Vignette, Write
from jobs.edit.measure.finding import Finding, adherence
from jobs.edit.measure.tone import largest, luma

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_CHANGED = 40.0  # levels in one channel, by which a mark differs from what the rest of the picture became
_ROWS = {"top": (0.0, 0.45), "middle": (0.25, 0.75), "bottom": (0.55, 1.0)}


@dataclass(frozen=True)
class Marks:
    """What stands out of an edited picture against the original: `mask` (height, width)."""

    mask: Mask
    pixels: Floats

    def within(self, operation: Write) -> Mask:
        """The marks in the part of the picture where the text should be."""
        height, width = self.mask.shape
        top, bottom = _ROWS[operation.row]
        reach = max(0.55, 1.3 * operation.height * sum(map(_width, operation.text)) * height / width)  # long texts
        left, right = {"left": (0, min(1, reach)), "right": (max(0, 1 - reach), 1)}.get(operation.column, (0, 1))
        part = np.zeros_like(self.mask)
        part[int(top * height) : int(np.ceil(bottom * height)), int(left * width) : int(np.ceil(right * width))] = True
        return self.mask & part


def marks(expected: Floats, edited: Floats, inside: Mask | None) -> Marks:
    """expected: the original as the rest of the instruction made it, (height, width, 3)."""
    change = largest(np.abs(edited - expected))
    mask = change > _CHANGED
    if mask.any():  # against what JPEG leaves around letters
        mask &= change > 0.5 * float(np.quantile(change[mask], 0.9))
    if inside is not None:
        mask &= ndimage.binary_erosion(inside, iterations=2)
    return Marks(mask, edited)


def written(found: Marks, operation: Write) -> Finding:
    """Whether marks of about that text's shape are where they should be, in their colour.

    The words themselves are not read: that takes character recognition. A text of the same length counts as the same.
    """
    all_of_it, here = float(found.mask.sum()), found.within(operation)
    count = float(here.sum())
    if count < max(6.0, 0.0008 * found.mask.size):
        words = (
            "no text appeared" if all_of_it < max(6.0, 0.0008 * found.mask.size) else "no text appeared at that place"
        )
        return Finding(0.0 if all_of_it > 0.01 * found.mask.size else adherence(0.0), words)
    placed = min(1.0, count / all_of_it / 0.9)
    shaped = _shaped(here, operation.text)
    coloured = _coloured(found.pixels[here], operation)
    share = placed * shaped * coloured
    where = {"middle": "the middle"}.get(operation.row, f"the {operation.row}")
    words = (
        f"marks of {'about the shape' if shaped > 0.7 else 'another shape than that'} of the text appeared at {where}"
    )
    if placed < 0.8:
        words += f", with {1 - count / all_of_it:.0%} of all changes elsewhere"
    if coloured < 0.7:
        words += ", in another colour"
    return Finding(adherence(share), words)


def _shaped(mask: Mask, text: str) -> float:
    """How well the extent, the number of separate strokes and their density fit a line of these letters."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    high, wide = float(rows[-1] - rows[0] + 1), float(columns[-1] - columns[0] + 1)
    letters = [letter for letter in text if not letter.isspace()]
    low = all(letter in "acemnorsuvwxz" for letter in letters)
    tall = any(letter in "gjpqy" or letter > "⺀" for letter in letters)
    line = 0.95 if tall else 0.56 if low else 0.75  # of the font's size
    extent = 1.0 if len(letters) == 1 else _alike(wide / high, sum(map(_width, text)) / line, 1.4)
    pieces = 1.0
    if high >= 12:  # smaller letters run together
        labels, found = ndimage.label(mask, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel())[1:]
        dots = sum(letter in "ij:;!?%" for letter in letters)
        pieces = _alike(int((sizes >= 2).sum()), len(letters) + dots, 1.6) if found else 0.0
    filled = float(mask.sum()) / (high * wide)
    return extent * pieces * (1.0 if filled < 0.75 or len(letters) < 2 else 0.3)  # a filled box is no text


def _width(letter: str) -> float:
    """Of a letter in a usual sans serif, as a share of the font's size."""
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    return 0.32 if letter in " iljtfrI.,:;'!|()[]1" else 0.92 if letter in "mwMW@%" else 0.6


def _alike(found: float, expected: float, tolerance: float) -> float:
    """1 within a factor, falling with what is beyond it."""
    factor = max(found, 1e-3) / expected
    return min(1.0, tolerance / max(factor, 1 / factor))


def _coloured(pixels: Floats, operation: Write) -> float:
    if operation.colour is None:
        return 1.0
    wanted = np.array(operation.colour, np.float32)
    distance = np.sqrt(((pixels - wanted) ** 2).sum(axis=1))
    near = float(np.quantile(distance, 0.3))  # edges of thin letters are mixtures
    return float(np.clip(1 - (near - 60) / 120, 0, 1))


@dataclass(frozen=True)
class Shade:
    """Light over the distance from the centre: gain = centre · (1 - strength · r²), r = 1 in the corners."""

    centre: float
    strength: float

    def over(self, height: int, width: int) -> Floats:
        """Relative to the centre, (height, width)."""
        return np.maximum(1 - self.strength * _distance(height, width), 0.02).astype(np.float32)


def shade(before: Floats, after: Floats, inside: Mask | None) -> Shade:
    """By least squares over ten rings; (height, width, 3) each."""
    lumas, new = luma(before), luma(after)
    square = _distance(*lumas.shape)
    mask = (new < 253) if inside is None else inside & (new < 253)
    ring = np.minimum((square[mask] * 10).astype(np.intp), 9)
    weight = np.bincount(ring, lumas[mask], 10)
    gain = np.bincount(ring, new[mask], 10) / np.maximum(weight, 1.0)
    at = np.bincount(ring, square[mask], 10) / np.maximum(np.bincount(ring, minlength=10), 1)
    weight = np.sqrt(weight) * (weight > 1)
    if weight.sum() == 0:
        return Shade(1.0, 0.0)
    slope, centre = np.polyfit(at, gain, 1, w=weight)
    return Shade(float(max(centre, 1e-3)), float(np.clip(-slope / max(centre, 1e-3), -3, 1)))


def shaded(found: Shade, operation: Vignette) -> Finding:
    words = f"the corners are {abs(found.strength):.0%} {'darker' if found.strength > 0 else 'lighter'} than the centre"
    if abs(found.strength) < 0.03:
        words = "the corners are as light as the centre"
    return Finding(
        adherence(found.strength / operation.strength, operation.loose, (0.5, 1.8) if operation.loose else (0.65, 1.4)),
        f"{words} ({operation.strength:.0%} asked)",
    )


def _distance(height: int, width: int) -> Floats:
    """Square of the distance from the centre, 1 in the corners."""
    across, down = np.linspace(-1, 1, width, dtype=np.float32) ** 2, np.linspace(-1, 1, height, dtype=np.float32) ** 2
    return np.asarray(np.add.outer(down, across) / 2, np.float32)
