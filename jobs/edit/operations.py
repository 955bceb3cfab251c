"""The embedded editor's operations: each what an instruction asks for, done with Pillow."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from jobs.edit import asked
from jobs.edit.asked import Operation
from jobs.training import fonts

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601, as Pillow's mode L
_BROWN = np.array([1.11, 0.99, 0.77])  # the usual sepia's proportions, of a luma that stays as it is


def apply(image: Image.Image, operation: Operation) -> Image.Image:
    """A new RGB image with this one operation done. Raises ValueError where the picture's size or fonts forbid it."""
    match operation:
        case asked.Light(factor=factor):
            return ImageEnhance.Brightness(image).enhance(factor)
        case asked.Contrast(factor=factor):
            return ImageEnhance.Contrast(image).enhance(factor)
        case asked.Saturation(factor=factor):
            return ImageEnhance.Color(image).enhance(factor)
        case asked.Grayscale():
            return image.convert("L").convert("RGB")
        case asked.Sepia():
            return image.convert("RGB", _rows(np.outer(_BROWN, _LUMA)))
        case asked.Invert():
            return ImageChops.invert(image)
        case asked.Hue(degrees=degrees):
            return image.convert("RGB", _turned(degrees))
        case asked.Tint(colour=colour, strength=strength):
            return Image.blend(image, ImageOps.colorize(image.convert("L"), "black", "white", mid=colour), strength)
        case asked.Warmth(amount=amount):
            return image.convert("RGB", (1 + amount, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1 - amount, 0))
        case asked.Blur(pixels=pixels):
            return image.filter(ImageFilter.GaussianBlur(pixels))
        case asked.Sharpen(amount=amount):
            return image.filter(ImageFilter.UnsharpMask(radius=1.5, percent=round(100 * amount), threshold=0))
        case asked.Posterize(levels=levels):
            return image.point([round(value * levels // 256 * 255 / (levels - 1)) for value in range(256)] * 3)
        case asked.Vignette(strength=strength):
            return _vignette(image, strength)
        case asked.Rotate(degrees=degrees):
            return _rotate(image, degrees)
        case asked.Flip(axis=axis):
            return ImageOps.mirror(image) if axis == "horizontal" else ImageOps.flip(image)
        case asked.Crop():
            width, height = image.size
            left, top, right, bottom = operation.box(image.size)
            return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
        case asked.Resize():
            return image.resize(operation.size(image.size), Image.Resampling.LANCZOS)
        case asked.Write():
            return _write(image, operation)
    raise ValueError(f"{operation.words!r}: this editor has no {type(operation).__name__}")


def _rotate(image: Image.Image, degrees: float) -> Image.Image:
    """Clockwise. Right angles lose nothing and turn the frame; others keep the frame, with black where nothing was."""
    if degrees % 90:
        return image.rotate(-degrees, Image.Resampling.BICUBIC)
    return image.rotate(-degrees, expand=True)


def _turned(degrees: float) -> tuple[float, ...]:
    """The colour matrix that turns hues and keeps luma: a rotation about gray, then luma put back along gray."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees)) / np.sqrt(3)
    about_gray = np.full((3, 3), (1 - cosine) / 3) + cosine * np.eye(3)
    about_gray += sine * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    matrix = about_gray + (_LUMA - _LUMA @ about_gray)
    return _rows(matrix)


def _rows(matrix: NDArray[np.floating]) -> tuple[float, ...]:
    """(3, 3): of each of the result's channels, what it takes of red, green and blue; as Pillow wants it."""
    return tuple(float(value) for row in matrix for value in (*row, 0))


def _vignette(image: Image.Image, strength: float) -> Image.Image:
    """Light falls with the square of the distance from the centre, by `strength` in the corners."""
    width, height = image.size
    across, down = (np.linspace(-1, 1, side, dtype=np.float32) ** 2 for side in (width, height))
    left = np.add.outer(down, across)
    left *= -strength / 2
    left += 1
    done = np.array(image)
    for channel in range(3):  # one at a time: a large picture's floats would take twelve times its memory
        np.multiply(done[..., channel], left, out=done[..., channel], casting="unsafe")
    return Image.fromarray(done)


def _write(image: Image.Image, what: asked.Write) -> Image.Image:
    width, height = image.size
    if min(width, height) < 16:
        raise ValueError(f"{what.words!r}: {width} x {height} pixels are too few for a text: give at least 16 x 16")
    margin = max(1, min(width, height) // 25)
    size = max(8, what.height * height)
    font = _font(what.text, size)
    wide = font.getlength(what.text)
    if wide > width - 2 * margin:
        size *= (width - 2 * margin) / wide
        if size < 5:
            raise ValueError(f"{what.words!r} does not fit on {width} x {height} pixels: shorten the text")
        font = _font(what.text, size)
    done = image.copy()
    draw = ImageDraw.Draw(done)
    left, top, right, bottom = draw.textbbox((0, 0), what.text, font=font)
    x = {"left": margin, "middle": (width - right + left) / 2, "right": width - margin - right + left}[what.column]
    y = {"top": margin, "middle": (height - bottom + top) / 2, "bottom": height - margin - bottom + top}[what.row]
    colour = what.colour or _seen(image, (int(x), int(y), int(x + right - left), int(y + bottom - top)))
    draw.text((x - left, y - top), what.text, fill=colour, font=font)
    return done


def _seen(image: Image.Image, box: tuple[int, int, int, int]) -> asked.Colour:
    """White or black, whichever is farther from what lies below."""
    below = np.asarray(image.crop(box)).reshape(-1, 3) @ _LUMA
    return (255, 255, 255) if not below.size or below.mean() < 140 else (0, 0, 0)


@lru_cache(maxsize=64)
def _font(text: str, size: float) -> ImageFont.FreeTypeFont:
    """A font that comes with matplotlib, or an installed one with all the characters. Raises ValueError for none."""
    path = fonts.path(text)
    if path is None:
        raise ValueError(f"no font here has all characters of {text!r}: install one, such as fonts-noto-cjk")
    return ImageFont.truetype(path, size)
