"""Writes a benchmark of five categories made from photographs that scikit-image carries, to try evaluations with.

The photographs, all free of copyright (scikit-image's `skimage/data/_fetchers.py` names the sources):
astronaut.png, Eileen Collins, NASA, public domain; hubble_deep_field.jpg, NASA and the Hubble Heritage team, public
domain; rocket.jpg, SpaceX, CC0; chelsea.png, a cat, Stefan van der Walt, CC0; coffee.png, Rachel Michetti, CC0.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, TextIO

from PIL import Image

PHOTOGRAPHS = {
    "astronaut.png": "an astronaut in an orange suit before a flag",
    "chelsea.png": "the face of a tabby cat",
    "coffee.png": "a cup of coffee with a spoon on a wooden table",
    "rocket.jpg": "a rocket on its launch pad at night",
    "hubble_deep_field.jpg": "a deep field of galaxies",
}
# Steps of posterizing hide fine detail, and a blur what was clipped before it: a scorer that measures could not tell.
_HIDES = re.compile("Posterize|Invert")
_HIDDEN_BY = {"colour": "focus", "light": "focus"}
_RUN = """\
# Edits the sample with the embedded editor and scores it with the embedded scorer: neither needs weights or a GPU.
name: {name}
benchmark: benchmark.json
editor: {{class: procedural}}
scorer: {{class: measured}}
seed: {seed}
"""


def write(
    folder: Path | str, pairs_per_category: int = 60, seed: int = 0, *, size: int = 256, inline: bool = True
) -> Path:
    """Writes benchmark.json and run.yaml; returns the path of run.yaml.

    Each pair has another crop of `size` pixels a side; the same arguments write the same bytes with the same Pillow.
    inline: images as base64 in the file, else as image_path in images/. One image is held at a time, so that tens of
    thousands of pairs may be written: 10,000 of 256 pixels are some 280 MB and take two minutes.
    """
    if pairs_per_category < 1 or size < 32:
        raise ValueError(f"{pairs_per_category} pairs a category of {size} pixels: ask for at least 1 and 32")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = list(photographs())
    with open(folder / "benchmark.json", "w", encoding="utf-8") as out:
        for number, category in enumerate(CATEGORIES):
            out.write("," if number else '{"categories": {')
            out.write(f"\n{json.dumps(category)}: [")
            _category(out, folder, category, pictures, pairs_per_category, seed, size, inline)
            out.write("]")
        out.write("}}\n")
    run = folder / "run.yaml"
    run.write_text(_RUN.format(name=f"sample-{5 * pairs_per_category}", seed=seed), encoding="utf-8")
    return run


def _category(
    out: TextIO,
    folder: Path,
    category: str,
    pictures: list[tuple[Image.Image, str]],
    pairs: int,
    seed: int,
    size: int,
    inline: bool,
) -> None:
    for n in range(pairs):
        random = Random(f"{seed} {category} {n}")  # of its own, so that more pairs leave the first ones as they are
        photograph, description = pictures[n % len(pictures)]
        data = _jpeg(_crop(photograph, random, size))
        name = f"{category}-{n:05d}"
        pair: dict[str, Any] = {"id": name, "description": description, "instruction": _instruction(category, random)}
        if inline:
            pair["image"] = base64.b64encode(data).decode()
        else:
            (folder / "images").mkdir(exist_ok=True)
            (folder / "images" / f"{name}.jpg").write_bytes(data)
            pair["image_path"] = f"images/{name}.jpg"
        out.write(("," if n else "") + "\n" + json.dumps(pair, ensure_ascii=False))


def photographs() -> Iterator[tuple[Image.Image, str]]:
    """Read from the package's files: importing skimage.data would import SciPy."""
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise ValueError("scikit-image carries the sample's photographs: pip install 'gristmill[worker,edit]'")
    data = Path(found.submodule_search_locations[0]) / "data"
    for name, description in PHOTOGRAPHS.items():
        with Image.open(data / name) as image:
            yield image.convert("RGB"), description


def _crop(image: Image.Image, random: Random, size: int) -> Image.Image:
    """A square of half to all of the shorter side, somewhere."""
    side = random.randint(min(image.size) // 2, min(image.size))
    left, top = random.randint(0, image.width - side), random.randint(0, image.height - side)
    return image.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side))


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92)
    return out.getvalue()


def _instruction(category: str, random: Random) -> str:
    """One of the category's templates, filled in. A third of them are Chinese; one in four asks for two things."""
    english, chinese = CATEGORIES[category]
    if random.random() < 1 / 3:
        return random.choice(chinese).format(**_amounts(random))
    first = random.choice(english)
    if category != "text" and not first.startswith("Posterize") and random.random() < 0.25:
        others = [each for each in CATEGORIES if each not in (category, "text", _HIDDEN_BY.get(category))]
        second = random.choice([each for each in CATEGORIES[random.choice(others)][0] if not _HIDES.search(each)])
        first = f"{first} and {second[0].lower()}{second[1:]}"
    return first.format(**_amounts(random))


def _amounts(random: Random) -> dict[str, Any]:
    return {
        "some": random.choice([20, 25, 30, 40]),
        "much": random.choice([40, 50, 60]),
        "few": random.choice([2, 3, 4]),
        "angle": random.choice([10, 15, 20, 30, 45]),
        "right": random.choice([90, 180, 270]),
        "turn": random.choice(["clockwise", "counterclockwise"]),
        "转": random.choice(["顺时针", "逆时针"]),
        "hue": random.choice([40, 60, 90, 120]),
        "colour": random.choice(["red", "blue", "green", "orange", "purple"]),
        "色": random.choice(["红色", "蓝色", "绿色", "紫色"]),
        "side": random.choice(["left", "right", "top", "bottom"]),
        "边": random.choice(["左", "右", "上", "下"]),
        "place": random.choice(["at the top", "at the bottom", "in the top left corner", "in the lower right corner"]),
        "处": random.choice(["顶部", "底部", "左上角", "右下角"]),
        "word": random.choice(["Gristmill", "Hello", "Good morning", "2026", "On sale", "Edit and score"]),
    }


CATEGORIES: dict[str, tuple[list[str], list[str]]] = {
    "colour": (
        ["Make the photo black and white", "Apply a sepia filter", "Invert the colors", "Saturate the colours a lot",
         "Reduce the saturation by {much}%", "Increase the saturation by {some}%", "Tint the image {colour} by {some}%",
         "Make it warmer", "Make the picture cooler", "Shift the hue by {hue} degrees", "Posterize to 4 levels"],
        ["把照片变成黑白", "饱和度提高{some}%", "饱和度降低{much}%",
         "给图片染上{色}", "让画面暖一点", "色相旋转{hue}度", "反色"],
    ),
    "light": (
        ["Brighten the image by {some}%", "Make it slightly darker", "Darken the photo by {some}%",
         "Add a vignette",
         "Increase the contrast by {some}%", "Reduce the contrast by {some}%", "Make it twice as bright",
         "Increase brightness and contrast by {some}%", "Make the picture a lot brighter"],
        ["把图片调亮{some}%", "将亮度降低{some}%", "对比度提高{some}%",
         "对比度降低{some}%", "添加暗角", "让照片稍微亮一点"],
    ),
    "geometry": (
        ["Rotate the image {right} degrees clockwise", "Rotate it {angle} degrees {turn}",
         "Flip the photo horizontally",
         "Flip it vertically", "Crop {some}% from the {side}", "Crop to the central {much}%",
         "Crop the {side} half",
         "Resize it to {much}%", "Turn the picture upside down"],
        ["将图像{转}旋转90度", "水平翻转图片", "上下翻转图片",
         "裁掉{边}边{some}%", "裁剪到中间的一半", "缩小到{much}%"],
    ),
    "focus": (
        ["Blur the image with a radius of {few} pixels", "Blur it slightly", "Sharpen the photo", "Sharpen it a lot",
         "Make it blurry", "Increase the sharpness by {much}%"],
        ["稍微模糊一下", "将图片模糊{few}像素", "锐化图片", "把照片变清晰"],
    ),
    "text": (
        ['Write "{word}" {place}', 'Add the text "{word}" in {colour} {place}',
         'Put the words "{word}" {place} in white',
         'Add the caption "{word}" at the bottom'],
        ["在{处}写上“{word}”", "在图片{处}添加{色}文字“{word}”", "添加文字“{word}”"],
    ),
}  # fmt: skip
