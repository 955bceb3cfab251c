"""Photographs to edit in tests, small, from those that scikit-image carries."""

from functools import cache

from PIL import Image

from jobs.edit.grammar import parse
from jobs.edit.operations import apply
from jobs.edit.sample import PHOTOGRAPHS, photographs


@cache
def photograph(name: str = "chelsea.png", side: int = 96) -> Image.Image:
    """The left square of it."""
    image = dict(zip(PHOTOGRAPHS, (image for image, _ in photographs()), strict=True))[name]
    square = min(image.size)
    return image.resize((side, side), Image.Resampling.LANCZOS, (0, 0, square, square))


def edit(image: Image.Image, instruction: str) -> Image.Image:
    """As the embedded editor does it."""
    for operation in parse(instruction):
        image = apply(image, operation)
    return image
