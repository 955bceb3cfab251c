"""What an instruction asks for: one small class an operation, which the editor carries out and the scorer measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Colour = tuple[int, int, int]  # sRGB, 0-255
Size = tuple[int, int]  # width, height in pixels
Box = tuple[float, float, float, float]  # left, top, right, bottom as shares of the width and height


@dataclass(frozen=True, kw_only=True)
class Operation:
    words: str  # the part of the instruction that asks for it
    loose: bool = False  # no exact amount was given ("brighter", "a lot"), so the default is one of many right answers


@dataclass(frozen=True, kw_only=True)
class Light(Operation):
    factor: float  # of the mean luma (Rec. 601, of the values as stored): 1.3 is 30 % brighter


@dataclass(frozen=True, kw_only=True)
class Contrast(Operation):
    factor: float  # of the distance of each luma from the mean


@dataclass(frozen=True, kw_only=True)
class Saturation(Operation):
    factor: float  # of the chroma at the same luma


@dataclass(frozen=True, kw_only=True)
class Grayscale(Operation):
    pass


@dataclass(frozen=True, kw_only=True)
class Sepia(Operation):
    pass


@dataclass(frozen=True, kw_only=True)
class Invert(Operation):
    pass


@dataclass(frozen=True, kw_only=True)
class Hue(Operation):
    degrees: float  # from red towards yellow and green, -180 to 180


@dataclass(frozen=True, kw_only=True)
class Tint(Operation):
    colour: Colour
    strength: float  # 0-1: the share that the colour has in the mixture


@dataclass(frozen=True, kw_only=True)
class Warmth(Operation):
    amount: float  # red gains and blue loses this share: 0.2 is warmer, -0.2 cooler


@dataclass(frozen=True, kw_only=True)
class Blur(Operation):
    pixels: float  # standard deviation of a Gaussian


@dataclass(frozen=True, kw_only=True)
class Sharpen(Operation):
    amount: float  # 1.0: fine detail has twice the amplitude


@dataclass(frozen=True, kw_only=True)
class Posterize(Operation):
    levels: int  # a channel


@dataclass(frozen=True, kw_only=True)
class Vignette(Operation):
    strength: float  # 0-1: what the corners lose of their light


@dataclass(frozen=True, kw_only=True)
class Rotate(Operation):
    degrees: float  # clockwise, -180 to 180


@dataclass(frozen=True, kw_only=True)
class Flip(Operation):
    axis: Literal["horizontal", "vertical"]  # horizontal: left and right change places


@dataclass(frozen=True, kw_only=True)
class Crop(Operation):
    """Takes `sides` (left, top, right, bottom) off, or cuts the largest centred piece of a shape, or of a size."""

    sides: Box = (0.0, 0.0, 0.0, 0.0)
    unit: Literal["share", "pixels"] = "share"
    ratio: float | None = None  # width / height
    size: Size | None = None

    def box(self, size: Size) -> Box:
        """What stays of a picture of this size. Raises ValueError if that is nothing, or more than there is."""
        width, height = size
        left, top, right, bottom = self.sides
        if self.unit == "pixels":
            left, top, right, bottom = left / width, top / height, right / width, bottom / height
        if self.size or self.ratio:
            wide, high = self.size or (min(width, height * (self.ratio or 1)), min(height, width / (self.ratio or 1)))
            left = right = (1 - wide / width) / 2
            top = bottom = (1 - high / height) / 2
        if min(left, top) < 0 or (1 - left - right) * width < 1 or (1 - top - bottom) * height < 1:
            raise ValueError(f"{self.words!r} cannot be cut from {width} x {height} pixels: ask for less")
        return left, top, 1 - right, 1 - bottom


@dataclass(frozen=True, kw_only=True)
class Resize(Operation):
    """By `scale`, or to a width or a height or both, in pixels; the side that is not given keeps the proportions."""

    scale: float | None = None
    width: int | None = None
    height: int | None = None

    def size(self, size: Size) -> Size:
        """What a picture of this size becomes. Raises ValueError beyond 64 megapixels."""
        width, height = size
        if self.scale is not None:
            wide, high = width * self.scale, height * self.scale
        else:
            wide = self.width or width * (self.height or height) / height
            high = self.height or height * (self.width or width) / width
        if wide * high > 64_000_000:
            raise ValueError(f"{self.words!r} makes {wide:,.0f} x {high:,.0f} pixels: ask for fewer than 64 megapixels")
        return max(1, round(wide)), max(1, round(high))


@dataclass(frozen=True, kw_only=True)
class Write(Operation):
    text: str
    row: Literal["top", "middle", "bottom"] = "bottom"
    column: Literal["left", "middle", "right"] = "middle"
    colour: Colour | None = None  # None: white or black, whichever is seen better
    height: float = 0.12  # of a line, as a share of the picture's height


COLOUR = (Saturation, Grayscale, Sepia, Invert, Hue, Tint, Warmth, Posterize)
