"""Measures light, contrast and colour: what an edit did to the values of the pixels that were there before.

Luma is Rec. 601 of the values as stored. Chroma is the point (2R - G - B, √3 (G - B)) / 2 in the complex plane, whose
angle is the hue and whose length grows with saturation (Hanbury, Serra 2003, "A 3D-polar coordinate colour
representation"). Both pictures are small copies in the same frame; pixels that were clipped are left out of the fits.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.edit import asked
from jobs.edit.asked import Operation
from jobs.edit.measure.finding import Finding, Unmeasurable, adherence, ratio

Floats = NDArray[np.float32]
Chroma = NDArray[np.complex64]
Mask = NDArray[np.bool_]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_PLANE = np.array([1, complex(-0.5, math.sqrt(0.75)), complex(-0.5, -math.sqrt(0.75))], np.complex64)
_BROWN = cmath.rect(1, math.radians(38))  # the hue of sepia
_LITTLE = 3.0  # levels: less chroma than this is no colour, less spread than this no contrast


def luma(pixels: Floats) -> Floats:
    """(..., 3) -> (...)."""
    return pixels @ _LUMA


def chroma(pixels: Floats) -> Chroma:
    """(..., 3) -> (...)."""
    return pixels.astype(np.complex64) @ _PLANE


def largest(pixels: Floats) -> Floats:
    """Of the three channels, (..., 3) -> (...); several times as fast as max(axis=-1)."""
    return np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def unclipped(pixels: Floats) -> Mask:
    """Where no channel is at an end of its range, (..., 3) -> (...)."""
    return np.asarray(largest(np.abs(pixels - 127.5)) < 126)


@dataclass(frozen=True)
class Line:
    """edited = slope · original + offset, by least squares over the pixels that are not clipped."""

    slope: float
    offset: float

    def at(self, value: float) -> float:
        return self.slope * value + self.offset


def fit(before: Floats, after: Floats) -> Line:
    """A flat picture's slope is 1."""
    mean, new = float(before.mean()), float(after.mean())
    spread = float(np.mean((before - mean) ** 2))
    slope = float(np.mean((before - mean) * (after - new))) / spread if spread > 0.25 else 1.0
    return Line(slope, new - slope * mean)


def expected(operations: Sequence[Operation], mean: float) -> tuple[float, float]:
    """The luma's new mean and its slope over the old, as light, contrast, inversion and tint should make them."""
    slope = 1.0
    for operation in operations:
        match operation:
            case asked.Light(factor=factor):
                mean, slope = mean * factor, slope * factor
            case asked.Contrast(factor=factor):
                slope *= factor
            case asked.Invert():
                mean, slope = 255 - mean, -slope
            case asked.Tint(colour=colour, strength=strength):
                own = float(luma(np.array(colour, np.float32)))
                mean, slope = (1 - strength) * mean + strength * own, (1 - strength / 2) * slope
    return max(mean, 1.0), slope


class Tone:
    """What became of the pixels `before`; both (n, 3) in 0-255. `free`: those that are not clipped, nor were averaged
    with such."""

    def __init__(self, before: Floats, after: Floats, free: Mask, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self.before, self.after = before[free], after[free]
        self.lumas, self.new_lumas = luma(self.before), luma(self.after)
        self.line = fit(self.lumas, self.new_lumas)
        self.mean = float(luma(before).mean())
        self.spread = float(luma(before).std())
        self.chroma, self.new_chroma = chroma(self.before), chroma(self.after)
        self.all_chroma, self.all_new_chroma = chroma(before), chroma(after)
        self.colourful = float(np.abs(self.all_chroma).mean())

    def finding(self, place: int) -> Finding | None:
        """None for an operation that is not measured here. Raises Unmeasurable."""
        operation = self.operations[place]
        measure = _MEASURES.get(type(operation))
        if measure is None:
            return None
        share, words = measure(self, operation, place)
        return Finding(adherence(share, operation.loose, _BANDS.get(type(operation))), words)

    def has(self, *kinds: type[Operation]) -> bool:
        return any(isinstance(operation, kinds) for operation in self.operations)

    def expected(self, without: int | None = None) -> tuple[float, float]:
        """Mean and slope of the luma that all operations but one should give. An inversion that was left out is no
        reason to expect more light."""
        kept = [
            operation
            for place, operation in enumerate(self.operations)
            if place != without and not (isinstance(operation, asked.Invert) and self.line.slope > 0)
        ]
        return expected(kept, self.mean)

    def light(self, operation: asked.Light, place: int) -> tuple[float, str]:
        mean, without = self.expected()[0], self.expected(place)[0]
        if abs(math.log(mean / without)) < 0.2 * abs(math.log(operation.factor)):
            raise Unmeasurable(f"what else is asked leaves no light to measure {operation.words!r} by")
        share = ratio(max(self.line.at(self.mean), 0.5) / without, mean / without)
        done = operation.factor ** max(min(share, 3.0), -3.0)  # before what else was asked, an inversion for one
        return share, f"brightness {_change(done)} ({_signed(operation.factor)} asked)"

    def contrast(self, operation: asked.Contrast, place: int) -> tuple[float, str]:
        if self.spread < _LITTLE:
            raise Unmeasurable("the original has one tone only, so its contrast cannot be measured")
        slope = abs(self.line.slope)
        if self.has(asked.Light):
            slope *= self.mean / max(self.line.at(self.mean), 0.5)
        return ratio(slope, operation.factor), f"contrast {_change(slope)} ({_signed(operation.factor)} asked)"

    def saturation(self, operation: asked.Saturation, place: int) -> tuple[float, str]:
        gain = abs(self._turn()) / (abs(self.line.slope) if self.has(asked.Light, asked.Contrast) else 1)
        return ratio(gain, operation.factor), f"saturation {_change(gain)} ({_signed(operation.factor)} asked)"

    def _turn(self) -> complex:
        """By what the chroma was multiplied: its length is the gain, its angle the change of hue."""
        if self.colourful < _LITTLE:
            raise Unmeasurable("the original has next to no colour, so a change of colour cannot be measured")
        return complex(np.vdot(self.chroma, self.new_chroma) / max(float(np.vdot(self.chroma, self.chroma).real), 1e-6))

    def grayscale(self, operation: asked.Grayscale, place: int) -> tuple[float, str]:
        before, after = self.all_chroma, self.all_new_chroma
        if self.has(asked.Tint, asked.Warmth, asked.Sepia):  # these colour it again, all in one hue
            before, after = before - before.mean(), after - after.mean()
        if (colour := float(np.abs(before).mean())) < _LITTLE:
            raise Unmeasurable("the original has next to no colour, so taking it away cannot be measured")
        gone = 1 - float(np.abs(after).mean()) / colour
        return gone, f"{max(gone, 0):.0%} of the colour is gone" if gone >= 0 else f"it has {-gone:.0%} more colour"

    def sepia(self, operation: asked.Sepia, place: int) -> tuple[float, str]:
        lumas, new = luma(self.before), self.new_lumas
        own = complex(np.mean(self.chroma * lumas) / max(float(np.mean(lumas**2)), 1.0))
        brown = complex(np.mean(self.new_chroma * new) / max(float(np.mean(new**2)), 1.0))
        spread = float(np.abs(self.chroma - own * lumas).mean())
        left = float(np.abs(self.new_chroma - brown * new).mean())
        towards = float((brown / _BROWN).real) - abs(float((brown / _BROWN).imag))
        gone = 1 - left / spread if spread > _LITTLE else 1.0
        share = min(gone, towards / 0.22 if gone > 0.1 else 0.0)  # a picture may be brown, or blue, by nature
        words = (
            f"{min(max(gone, 0), 1):.0%} of its own colours are gone and it is {'' if towards > 0.12 else 'not '}brown"
        )
        return min(share, 1.0), words

    def invert(self, operation: asked.Invert, place: int) -> tuple[float, str]:
        if self.spread < _LITTLE:
            raise Unmeasurable("the original has one tone only, so an inversion cannot be measured")
        _, without = self.expected(place)
        slope = self.line.slope / abs(without) if without else self.line.slope
        words = "light and dark changed places" if slope < -0.5 else "light and dark did not change places"
        return min(1.25, (1 - slope) / 2), words

    def hue(self, operation: asked.Hue, place: int) -> tuple[float, str]:
        turn = self._turn()
        found = math.degrees(cmath.phase(turn))
        if abs(turn) < 0.15:
            return 0.0, "the colours are gone, so no hue is left to be turned"
        off = abs((found - operation.degrees + 180) % 360 - 180)
        share = 1 - off / abs(operation.degrees)
        if abs(operation.degrees) < 170 and found * operation.degrees < 0 and abs(found) > 15:
            share = min(share, -0.5)
        return share, f"hues turned by {found:.0f}° ({operation.degrees:.0f}° asked)"

    def tint(self, operation: asked.Tint, place: int) -> tuple[float, str]:
        gain = abs(self.line.slope) if self.has(asked.Light, asked.Contrast) else 1.0
        base = 0j if self.has(asked.Grayscale, asked.Sepia) else gain * complex(self.chroma.mean())
        colour = complex(chroma(np.array(operation.colour, np.float32)))
        towards = colour - base
        way = towards / abs(towards)
        moved = complex(self.new_chroma.mean()) - base
        along, across = (moved / way).real, abs((moved / way).imag)
        # painted over with the colour itself, or with that colour as dark and light as the picture is: both are right
        room = float(np.minimum(self.lumas, 255 - self.lumas).mean()) / 127.5
        most = operation.strength * abs(towards)
        least = operation.strength * max(((colour * room - base) / way).real, 0.1 * abs(towards))
        reached = along - 0.5 * across
        share = reached / least if reached < least else max(1.0, reached / most)
        words = f"colours moved by {abs(moved):.0f} levels, {_how(along, across)} the colour asked for"
        return share, words if abs(moved) > 1.5 else "colours stayed as they were"

    def warmth(self, operation: asked.Warmth, place: int) -> tuple[float, str]:
        after = self.after.mean(0)
        if self.has(asked.Contrast):  # a contrast about the mean moves the channels' means, too
            after = self.new_lumas.mean() + (after - self.new_lumas.mean()) / max(abs(self.line.slope), 0.1)
        before = self.before.mean(0)
        red, _, blue = (float(value) for value in np.log(np.maximum(after, 0) + 1) - np.log(before + 1))
        wanted = math.log((1 + operation.amount) / (1 - operation.amount))
        way = "warmer" if red > blue else "cooler"
        words = (
            f"red against blue {_change(math.exp(red - blue))}" if abs(red - blue) > 0.01 else "neither warm nor cool"
        )
        return (red - blue) / wanted, f"{words}, so it is {way}" if abs(red - blue) > 0.01 else words


def posterized(before: Floats, after: Floats, operation: asked.Posterize) -> Finding:
    """On how few values the pixels gather: by the perplexity (the exponential of the entropy) of a channel's histogram.

    before, after: (n, 3), of the full pictures. Noise that came after it, such as JPEG's, counts against it.
    """
    had, has = (_values(pixels, 64) for pixels in (before, after))
    wanted = _values(before, operation.levels)
    if had < 1.3 * wanted:
        raise Unmeasurable(f"the original has only about {had:.0f} values a channel: posterizing cannot be measured")
    share = math.log(had / has) / math.log(had / wanted)
    words = f"about {has:.1f} different values a channel ({wanted:.1f} asked, {had:.0f} before)"
    return Finding(adherence(share, band=(0.55, 1.4) if operation.loose else (0.85, 1.05)), words)


def _values(pixels: Floats, levels: int) -> float:
    """As many values, equally often, would tell as much as these with their range cut into so many levels."""
    entropies = []
    for channel in np.moveaxis(pixels, -1, 0):
        counts = np.bincount((channel * (levels / 256)).astype(np.intp), minlength=levels) / channel.size
        entropies.append(-float((counts * np.log(np.maximum(counts, 1e-12))).sum()))
    return math.exp(sum(entropies) / len(entropies))


def _change(factor: float) -> str:
    if abs(factor - 1) < 0.015:
        return "stayed as it was"
    return f"{'rose' if factor > 1 else 'fell'} by {abs(factor - 1):.0%}"


def _signed(factor: float) -> str:
    return f"{factor - 1:+.0%}"


def _how(along: float, across: float) -> str:
    if along <= 0:
        return "away from"
    return "towards" if across < along else "beside"


_MEASURES: dict[type[Operation], Callable[..., tuple[float, str]]] = {
    asked.Light: Tone.light,
    asked.Contrast: Tone.contrast,
    asked.Saturation: Tone.saturation,
    asked.Grayscale: Tone.grayscale,
    asked.Sepia: Tone.sepia,
    asked.Invert: Tone.invert,
    asked.Hue: Tone.hue,
    asked.Tint: Tone.tint,
    asked.Warmth: Tone.warmth,
}
_BANDS: dict[type[Operation], tuple[float, float]] = {
    asked.Grayscale: (0.92, 1.25),
    asked.Sepia: (0.75, 1.25),
    asked.Tint: (0.5, 1.8),  # how strong "30 % blue" is differs from editor to editor
    asked.Warmth: (0.5, 1.8),
}
