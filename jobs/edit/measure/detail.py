"""Measures blur and sharpness from the spectra of the picture before and after.

A Gaussian blur of standard deviation s multiplies the power at frequency f (cycles a pixel) by exp(-4π²s²f²), so s is
read off the slope of the ratio's logarithm over f² (Zhang, Cham 2008 and others); the constant of that fit takes up
whatever happened to contrast. Sharpening is the gain of the upper frequencies against the lower ones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from jobs.edit.asked import Blur, Sharpen
from jobs.edit.measure.finding import Finding, Unmeasurable, adherence

Floats = NDArray[np.float32]
_BINS = 32  # rings of equal width up to 0.5 cycles a pixel


class Spectra:
    """Power by frequency of two pictures in luma, of the same shape, 16 pixels a side or more."""

    def __init__(self, before: Floats, after: Floats, step: float = 1.0) -> None:
        """step: between two values that the edited picture may have, 1 unless it was posterized."""
        height, width = before.shape
        window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
        down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
        frequency = np.sqrt(down**2 + across**2)
        ring = np.minimum((frequency * 2 * _BINS).astype(np.intp), _BINS).ravel()
        self.count = np.bincount(ring, minlength=_BINS + 1)[1:_BINS]
        self.frequency = (np.arange(1, _BINS) + 0.5) / (2 * _BINS)
        self.before, self.after = (self._power(each, window, ring) for each in (before, after))
        self.noise = float((window**2).sum()) * step**2 / 12  # of rounding to these steps

    def _power(self, values: Floats, window: Floats, ring: NDArray[np.intp]) -> NDArray[np.float64]:
        spectrum = np.abs(np.fft.rfft2((values - values.mean()) * window)) ** 2
        return np.bincount(ring, spectrum.ravel(), _BINS + 1)[1:_BINS] / np.maximum(self.count, 1)

    def blur(self, about: float) -> float:
        """Standard deviation in pixels; negative for the opposite. `about`: what was asked.

        Raises Unmeasurable where the original has nothing at the frequencies that such a blur takes away.
        """
        empty = (self.count == 0) | (self.before < 20 * self.noise)
        seen = (self.count > 0) & ~np.logical_or.accumulate(empty & (self.count > 0))
        if seen.sum() < 3 or (2 * math.pi * about * self.frequency[seen][-1]) ** 2 < 1:
            raise Unmeasurable("the original has no fine detail, so a blur cannot be measured")
        logs = np.log((self.after + self.noise / 4) / (self.before + self.noise / 4))
        # up to the ring where rounding, resampling or JPEG's noise outweighs what the blur left
        lowest = float(logs[seen].min())
        over = (self.after < 20 * self.noise) | ((lowest < -1) & (logs < lowest + 1))
        kept = seen & ~np.logical_or.accumulate(over & (np.cumsum(seen) > 3))
        squares, values = self.frequency[kept] ** 2, logs[kept]
        weights = self.count[kept] * np.exp(np.minimum(values - values.max(), 0) / 4)
        centre = np.average(squares, weights=weights)
        slope = np.average((squares - centre) * (values - np.average(values, weights=weights)), weights=weights)
        variance = -slope / max(float(np.average((squares - centre) ** 2, weights=weights)), 1e-12) / (4 * math.pi**2)
        return math.copysign(math.sqrt(abs(variance)), variance)

    def gain(self) -> float:
        """By what the amplitude above 1/6 cycle a pixel rose, against that below 1/16. Raises Unmeasurable."""
        high, low = self.frequency > 1 / 6, self.frequency < 1 / 16
        if self.before[high].mean() < 4 * self.noise or self.before[low].max() < 8 * self.noise:
            raise Unmeasurable("the original has no fine detail, so its sharpness cannot be measured")
        above, below = (
            float((self.after[band] * self.count[band]).sum() / max((self.before[band] * self.count[band]).sum(), 1e-9))
            for band in (high, low)
        )
        return math.sqrt(above / max(below, 1e-9))


def blurred(spectra: Spectra, operation: Blur, pixels: float) -> Finding:
    """pixels: what was asked, in pixels of the spectra."""
    found = spectra.blur(pixels)
    shown = max(found, 0.0) * operation.pixels / pixels
    words = f"blurred by {shown:.1f} pixels ({operation.pixels:g} asked)"
    if abs(found) < 0.15:
        words = f"not blurred ({operation.pixels:g} pixels asked)"
    elif found < -0.3:
        words = f"sharper instead of blurred ({operation.pixels:g} pixels asked)"
    share = found / pixels
    return Finding(
        adherence(share if abs(found) > 0.15 else 0.0, operation.loose, None if operation.loose else (0.7, 1.4)), words
    )


def sharpened(spectra: Spectra, operation: Sharpen) -> Finding:
    gain = spectra.gain()
    share = math.log(max(gain, 1e-3)) / math.log(1 + operation.amount)
    change = f"{abs(gain - 1):.0%} {'more' if gain > 1 else 'less'}" if abs(gain - 1) > 0.03 else "no more"
    return Finding(
        adherence(share, operation.loose, None if operation.loose else (0.6, 1.6)),
        f"{change} fine detail ({operation.amount:.0%} more asked)",
    )
