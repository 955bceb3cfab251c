"""Finds how a picture was turned, flipped and cropped, by trying what was asked, less, more and the opposite of it.

Each try maps the edited picture's frame back to the original's; the one that correlates best is what was done. All the
rest is measured in that frame, so that a picture that was not turned can still show whether it was brightened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.edit.asked import Crop, Flip, Invert, Operation, Resize, Rotate
from jobs.edit.measure.finding import Finding, Unmeasurable, adherence

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Extent = tuple[float, float]  # width, height

_SIDE = 96  # of the copies that are compared
_ALIKE = 0.995  # correlation beyond which a picture looks the same turned or not
_ALMOST = 0.9  # correlation below which a turned picture is looked for in a larger frame, too
_FOUND = 0.3  # correlation below which it is another picture
_SHARES = {
    Rotate: (1.0, 0.0, -1.0, 0.5, -0.5, 0.75, 1.25, 1.5, 2.0),
    Flip: (1.0, 0.0, -1.0),
    Crop: (1.0, 0.0, -1.0, 0.25, 0.5, 0.75, 1.15, 1.3, 1.5),
}


@dataclass(frozen=True)
class Frame:
    """Where an edited picture's pixels come from: `matrix` maps (x, y, 1) of the frame to the original, in pixels."""

    matrix: NDArray[np.float64]
    size: Extent
    windows: tuple[tuple[NDArray[np.float64], Extent], ...] = ()  # as `matrix`, to the frames that were turned

    def part(self, left: float, top: float, width: float, height: float) -> Frame:
        """A piece of it, in its own pixels."""
        shift = np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]])
        windows = tuple((matrix @ shift, size) for matrix, size in self.windows)
        return Frame(self.matrix @ shift, (width, height), windows)

    def shows(self, size: tuple[int, int]) -> Mask | None:
        """Which pixels at `size` have something of the original; None for all. A turn leaves corners empty."""
        if not self.windows:
            return None
        across = (np.arange(size[0]) + 0.5) * self.size[0] / size[0]
        down = (np.arange(size[1]) + 0.5)[:, None] * self.size[1] / size[1]
        mask = np.ones((size[1], size[0]), np.bool_)
        for (first, second, _), (width, height) in self.windows:
            x = first[0] * across + first[1] * down + first[2]
            y = second[0] * across + second[1] * down + second[2]
            mask &= (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
        return mask

    def render(
        self,
        image: Image.Image,
        whole: Extent,
        size: tuple[int, int],
        by: Image.Resampling = Image.Resampling.BICUBIC,
    ) -> tuple[Image.Image, Mask | None]:
        """The original in this frame at `size`, and which pixels it has there; None for all.

        image: the original or a smaller copy of it; whole: the original's size.
        """
        scale = np.diag([self.size[0] / size[0], self.size[1] / size[1], 1.0])
        back = np.diag([image.width / whole[0], image.height / whole[1], 1.0])
        matrix = back @ self.matrix @ scale
        if size == image.size and np.abs(matrix - np.eye(3)).max() < 1e-6:
            return image, None
        data = tuple(float(value) for value in matrix[:2].ravel())
        step = math.sqrt(abs(np.linalg.det(matrix)))
        if step > 1.5:  # a transform samples points: what it skips has to be averaged before
            smaller = (max(1, round(image.width / step)), max(1, round(image.height / step)))
            return self.render(image.resize(smaller, Image.Resampling.BOX), whole, size, by)
        done = image.transform(size, Image.Transform.AFFINE, data, by)
        return done, self.shows(size)


@dataclass(frozen=True)
class Alignment:
    frame: Frame
    findings: dict[int, Finding]  # by the operation's place in the instruction
    found: bool  # False: the edited picture does not show the original at all
    stretched: float  # how much wider (above 1) or narrower its content is than it should be


def align(original: Image.Image, edited: Image.Image, operations: Sequence[Operation]) -> Alignment:
    """Raises Unmeasurable where the picture looks the same with and without what was asked."""
    places = [place for place, operation in enumerate(operations) if type(operation) in _SHARES]
    inverted = any(isinstance(operation, Invert) for operation in operations)
    comparison = _Comparison(original, edited, operations, inverted)
    asked = dict.fromkeys(places, 1.0)
    for place in places:
        comparison.told_apart(place, asked)
    best = _search(comparison, operations, places)
    if comparison.closeness(best) < _ALMOST and any(isinstance(operation, Rotate) for operation in operations):
        comparison.enlarge()
        best = _search(comparison, operations, places)
    closeness = comparison.closeness(best)
    found = closeness >= _FOUND
    frame = comparison.frame(best if found else asked)
    findings = {place: _finding(operations[place], best[place] if found else 0.0) for place in places}
    for place, operation in enumerate(operations):
        if isinstance(operation, Resize):
            findings[place] = _resized(operation, frame.size, edited.size)
    sizes = [operation for operation in operations if isinstance(operation, Resize)]
    wanted = sizes[-1].size(_whole(frame.size)) if sizes else frame.size
    stretched = (edited.width / edited.height) / (wanted[0] / wanted[1])
    return Alignment(frame, findings, found, stretched)


def _search(comparison: _Comparison, operations: Sequence[Operation], places: Sequence[int]) -> dict[int, float]:
    """What was done of each, one after the other, beginning with what was asked."""
    best = dict.fromkeys(places, 1.0)
    for _ in range(2 if len(places) > 1 else 1):
        before = best
        for place in places:
            shares = _SHARES[type(operations[place])]
            tries = [{**best, place: share} for share in shares if _makes_sense(operations[place], share)]
            best = max([best, *tries], key=comparison.closeness)  # the first of equals, which is what was asked
        if best == before:
            break
    nothing = dict.fromkeys(places, 0.0)
    return nothing if comparison.closeness(nothing) > comparison.closeness(best) + 1e-4 else best


class _Comparison:
    """Correlates the small edited picture with the original in each frame that is tried."""

    def __init__(
        self, original: Image.Image, edited: Image.Image, operations: Sequence[Operation], inverted: bool
    ) -> None:
        self.whole = (float(original.width), float(original.height))
        self.operations, self.inverted, self.edited_size = operations, inverted, edited.size
        self.original = _small(original.convert("L"), 2 * _SIDE)
        self.edited = _small(edited.convert("L"), _SIDE)
        self.values = np.asarray(self.edited, np.float32)
        self.expand: tuple[bool, ...] = (False,)
        self.seen: dict[tuple[tuple[int, float], ...], tuple[float, Frame]] = {}

    def frame(self, shares: dict[int, float]) -> Frame:
        return self._best(shares)[1]

    def closeness(self, shares: dict[int, float]) -> float:
        return self._best(shares)[0]

    def enlarge(self) -> None:
        """From now on a turned picture may also lie in a frame that grew to hold it, as some editors do."""
        self.expand = (False, True)
        self.seen.clear()

    def _best(self, shares: dict[int, float]) -> tuple[float, Frame]:
        key = tuple(sorted(shares.items()))
        if key not in self.seen:
            frames = {
                (frame := _frame(self.whole, self.operations, shares, expand)).size: frame for expand in self.expand
            }
            self.seen[key] = max(((self._closeness(frame), frame) for frame in frames.values()), key=itemgetter(0))
        return self.seen[key]

    def _closeness(self, frame: Frame) -> float:
        stretch = abs(math.log((self.edited_size[0] / self.edited_size[1]) / (frame.size[0] / frame.size[1])))
        there, mask = frame.render(self.original, self.whole, self.edited.size, Image.Resampling.BILINEAR)
        value = correlation(np.asarray(there, np.float32), self.values, mask)
        return (abs(value) if self.inverted else value) - 0.2 * stretch

    def told_apart(self, place: int, asked: dict[int, float]) -> None:
        """Raises Unmeasurable if the original with and without this operation looks the same."""
        operation = self.operations[place]
        done, not_done = (
            _frame(self.whole, self.operations, {place: share}, False).render(
                self.original, self.whole, self.edited.size
            )
            for share in (1.0, 0.0)
        )
        first, second = (np.asarray(image, np.float32) for image, _ in (done, not_done))
        if second.std() < 1 or correlation(first, second, done[1]) > _ALIKE:
            raise Unmeasurable(
                f"the original looks the same before and after {operation.words!r}: it cannot be measured"
            )


def correlation(first: Floats, second: Floats, mask: Mask | None = None) -> float:
    """Pearson's, of two pictures; 0 where one of them is flat."""
    if mask is not None:
        first, second = first[mask], second[mask]
    if first.size < 16:
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt(np.vdot(first, first) * np.vdot(second, second)))
    return float(np.vdot(first, second)) / norm if norm > 1e-3 else 0.0


def _frame(whole: Extent, operations: Sequence[Operation], shares: dict[int, float], expand: bool) -> Frame:
    """The frame after these shares of the operations. Resizing changes no content, so it is left out."""
    matrix, size = np.eye(3), whole
    windows: list[tuple[NDArray[np.float64], Extent]] = []
    for place, operation in enumerate(operations):
        share = shares.get(place, 0.0)
        if not share:
            continue
        match operation:
            case Rotate(degrees=degrees):
                if degrees * share % 90:
                    windows.append((np.eye(3), size))
                step, size = _rotated(size, degrees * share, expand)
            case Flip(axis=axis):
                across = (axis == "horizontal") == (share > 0)
                step = np.diag([-1.0, 1, 1] if across else [1.0, -1, 1])
                step[:2, 2] = (size[0], 0) if across else (0, size[1])
            case Crop():
                left, top, right, bottom = _box(operation.box(_whole(size)), share)
                step = np.array([[1, 0, left * size[0]], [0, 1, top * size[1]], [0, 0, 1]])
                size = (size[0] * (right - left), size[1] * (bottom - top))
            case _:
                continue
        matrix = matrix @ step
        windows = [(window @ step, extent) for window, extent in windows]
    return Frame(matrix, size, tuple(windows))


def _rotated(size: Extent, degrees: float, expand: bool) -> tuple[NDArray[np.float64], Extent]:
    """Clockwise about the centre: from a pixel of the result to where it was."""
    turn = math.radians(degrees)
    cosine, sine = round(math.cos(turn), 12), round(math.sin(turn), 12)
    width, height = size
    new = size
    if expand or degrees % 90 == 0:
        new = (width * abs(cosine) + height * abs(sine), width * abs(sine) + height * abs(cosine))
    back = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1.0]])
    to, of = np.eye(3), np.eye(3)
    to[:2, 2] = width / 2, height / 2
    of[:2, 2] = -new[0] / 2, -new[1] / 2
    return to @ back @ of, new


def _box(box: tuple[float, float, float, float], share: float) -> tuple[float, float, float, float]:
    """Between the whole picture (0) and what was asked (1), beyond it, or the other end of the picture (below 0)."""
    left, top, right, bottom = box
    if share < 0:
        return 1 - right, 1 - bottom, 1 - left, 1 - top
    left, top, right, bottom = left * share, top * share, 1 - (1 - right) * share, 1 - (1 - bottom) * share
    return left, top, max(right, left + 0.02), max(bottom, top + 0.02)


def _makes_sense(operation: Operation, share: float) -> bool:
    """Whether this share is another picture than the others are."""
    if isinstance(operation, Rotate):
        return abs(operation.degrees) < 180 or share not in (-1.0, -0.5, 1.5, 2.0)
    if isinstance(operation, Crop) and share < 0:
        return operation.sides[0] != operation.sides[2] or operation.sides[1] != operation.sides[3]
    return True


def _finding(operation: Operation, share: float) -> Finding:
    match operation:
        case Rotate(degrees=degrees):
            done = degrees * share
            way = "clockwise" if done > 0 else "counterclockwise"
            wanted = "clockwise" if degrees > 0 else "counterclockwise"
            words = f"turned by {abs(done):.0f}° {way}" if share else "not turned"
            words += "" if share == 1 else f" ({abs(degrees):.0f}° {wanted} asked)"
        case Flip(axis=axis):
            other = "vertically" if axis == "horizontal" else "horizontally"
            words = {1.0: f"flipped {axis}ly", 0.0: "not flipped"}.get(share, f"flipped {other} instead of {axis}ly")
        case _:
            part = "cropped as asked" if share == 1 else f"{share:.0%} of what was asked was cut off"
            words = "not cropped" if share == 0 else "cropped at the opposite side" if share < 0 else part
    loose = operation.loose and isinstance(operation, Crop)
    return Finding(adherence(share, loose, None if loose else (0.9, 1.1)), words)


def _resized(operation: Resize, before: Extent, size: tuple[int, int]) -> Finding:
    wide, high = operation.size(_whole(before))
    asked = math.log(wide * high / (before[0] * before[1])) / 2
    done = math.log(size[0] * size[1] / (before[0] * before[1])) / 2
    if abs(asked) < 0.01:
        raise Unmeasurable(f"the original has about the size of {operation.words!r} already: it cannot be measured")
    words = f"{size[0]} x {size[1]} pixels ({wide} x {high} asked)"
    return Finding(adherence(done / asked, operation.loose, None if operation.loose else (0.93, 1.07)), words)


def _small(image: Image.Image, side: int) -> Image.Image:
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BOX, reducing_gap=3.0) if size != image.size else image


def _whole(size: Extent) -> tuple[int, int]:
    return max(1, round(size[0])), max(1, round(size[1]))
