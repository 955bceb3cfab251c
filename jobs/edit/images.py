"""Reads pictures that others made: an upright 8-bit RGB image comes out, or an ImageError in one line."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # no PostScript or fonts: only what is decoded by fixed code
MAX_PIXELS = 64_000_000  # 192 MB decoded; a header that says more is refused before a pixel is read

# EXIF tag 0x0112: what has to be done to see the picture upright (EXIF 2.32, 4.6.4 A)
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """The bytes are not a picture that can be used; one line says what they are and what would do."""


def from_base64(text: str) -> tuple[Image.Image, list[str]]:
    """As `decode`, from what `bytes_of` takes."""
    return decode(bytes_of(text))


def bytes_of(text: str) -> bytes:
    """The file in base64, with or without `data:image/…;base64,` before it; white space is let pass."""
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise ImageError(f"the data URL begins with {head[:40]!r}: write data:image/png;base64, and the text")
    text = "".join(text.split())
    if not text:
        raise ImageError("the image is empty: give base64 text or an image_path")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        why = "it was cut off" if len(text) % 4 else str(error).lower()
        raise ImageError(f"{len(text)} characters are not whole base64 ({why}): encode the file again") from None


def decode(data: bytes) -> tuple[Image.Image, list[str]]:
    """The picture in RGB as a viewer would show it, and a note for each thing that was changed to get there.

    Of an animation the first frame; upright by its EXIF; alpha over white; 16 bits to 8; CMYK, gray, palette to RGB.
    Raises ImageError for what is truncated, too large, or no picture in one of FORMATS.
    """
    if not data:
        raise ImageError("the image is empty: 0 bytes")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            width, height = opened.size
            _bounded(width, height)
            notes = ["an animation: its first frame is used"] if getattr(opened, "is_animated", False) else []
            opened.seek(0)  # asking for the second frame may have moved a GIF
            notes += ["more than 8 bits: converted to 8"] * _deep(opened)
            opened.load()
            turn = _UPRIGHT.get(opened.getexif().get(_ORIENTATION, 1))
            image = _rgb(opened, notes)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"the header asks for more than {MAX_PIXELS:,} pixels: scale the image down") from None
    except UnidentifiedImageError:
        raise ImageError(_unknown(data)) from None
    except Exception as error:  # hostile bytes raise a dozen types in Pillow's decoders, and none means anything else
        raise ImageError(f"the image cannot be decoded ({len(data):,} bytes): {_line(error)}") from None
    if turn is not None:
        image = image.transpose(turn)
        notes.append("turned upright as its EXIF data say")
    return image, notes


def encode(image: Image.Image) -> bytes:
    """PNG. At level 1, since the runs of an evaluation write many: 4 times as fast as the default, a tenth larger."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def shrink(image: Image.Image, side: int = 160) -> Image.Image:
    """A copy whose longer side is at most this many pixels."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return small


def thumbnail(image: Image.Image, side: int = 160) -> bytes:
    """JPEG of the shrunk picture, a few kilobytes, for a page that shows hundreds."""
    out = io.BytesIO()
    shrink(image, side).save(out, "JPEG", quality=80)
    return out.getvalue()


def _bounded(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"the image has {width} x {height} pixels: none to edit")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels are more than {MAX_PIXELS:,}: scale the image down")


def _deep(image: Image.Image) -> bool:
    """Whether its file has more than 8 bits a channel. Of colour, only the decoder's raw mode still says it."""
    tiles = getattr(image, "tile", None)
    raw = tiles[0][3] if tiles else ""
    return image.mode[0] in "IF" or ";16" in str(raw if isinstance(raw, str) or not raw else raw[0])


def _rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode[0] in "IF":
        return Image.fromarray(_eight(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        if with_alpha.getchannel("A").getextrema() != (255, 255):
            notes.append("transparent: put on white")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), with_alpha).convert("RGB")
    if image.mode != "RGB":
        named = {"L": "gray", "1": "black and white", "P": "a palette"}.get(image.mode, image.mode)
        notes.append(f"{named}: converted to RGB")
    return image.convert("RGB")


def _eight(pixels: np.ndarray) -> np.ndarray:
    """Gray of any depth as 8 bits, by the depth that its values show. Pillow's own conversion would cut at 255."""
    low, high = float(pixels.min()), float(pixels.max())
    if not 0 <= low <= high <= 65535:  # not true of NaN either
        raise ImageError(f"its values go from {low:g} to {high:g}: save it with 8 or 16 bits a channel")
    if pixels.dtype.kind == "f" and high <= 1:
        return np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype.itemsize > 2 and high <= 255:
        return np.rint(pixels).astype(np.uint8)
    return (pixels.astype(np.int64) >> 8).astype(np.uint8)


def _unknown(data: bytes) -> str:
    known = ", ".join(FORMATS)
    if data.lstrip()[:1] == b"<":
        return f"it begins with {data.lstrip()[:15].decode('ascii', 'replace')!r}, so it is a text, not one of {known}"
    return f"{len(data):,} bytes that are no picture, or the truncated head of one: give one of {known}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
