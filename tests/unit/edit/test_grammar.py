"""An instruction is read as operations, in English and Chinese, or refused with the words that were not understood."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.edit import asked
from jobs.edit.grammar import NotUnderstood, parse
from jobs.edit.vocabulary import phrases

RED, BLUE = (220, 20, 20), (30, 60, 220)


def read(instruction: str) -> list[tuple[object, ...]]:
    """Name and values of each operation, without its words."""
    return [
        (type(each).__name__, *(value for key, value in vars(each).items() if key not in ("words", "loose")))
        for each in parse(instruction)
    ]


@pytest.mark.parametrize(
    ("instruction", "operations"),
    [
        ("Brighten the image by 30%", [("Light", 1.3)]),
        ("please make it twice as bright", [("Light", 2.0)]),
        ("make it half as bright.", [("Light", 0.5)]),
        ("darken the photo a lot", [("Light", 0.4)]),
        ("Make the picture slightly darker", [("Light", 0.85)]),
        ("Set the brightness to 150%", [("Light", 1.5)]),
        ("increase brightness and contrast by 20%", [("Light", 1.2), ("Contrast", 1.2)]),
        ("increase the brightness by 20% and reduce the contrast by 10%", [("Light", 1.2), ("Contrast", 0.9)]),
        ("double the contrast", [("Contrast", 2.0)]),
        ("reduce saturation by half", [("Saturation", 0.5)]),
        ("three times more saturated", [("Saturation", 3.0)]),
        ("reduce the saturation to 0%", [("Grayscale",)]),
        ("convert to black and white and add a vignette", [("Grayscale",), ("Vignette", 0.5)]),
        ("turn the photo black and white", [("Grayscale",)]),
        ("Give it a warm tint, then a sepia filter", [("Warmth", 0.2), ("Sepia",)]),
        ("Tint the image blue by 40%", [("Tint", BLUE, 0.4)]),
        ("rotate the hue by 200 degrees", [("Hue", -160.0)]),
        ("invert the colors", [("Invert",)]),
        ("Blur with a radius of 4 pixels", [("Blur", 4.0)]),
        ("blur it by two pixels", [("Blur", 2.0)]),
        ("Increase the sharpness by 50%", [("Sharpen", 0.5)]),
        ("posterize to 6 colours", [("Posterize", 6)]),
        ("rotate by 30° to the left", [("Rotate", -30.0)]),
        ("Rotate the image 270 degrees clockwise", [("Rotate", -90.0)]),
        ("rotate it left by 15 degrees", [("Rotate", -15.0)]),
        ("a quarter turn clockwise", [("Rotate", 90.0)]),
        ("turn it upside down", [("Rotate", 180.0)]),
        ("flip it upside down", [("Flip", "vertical")]),
        ("flip horizontally and vertically", [("Flip", "horizontal"), ("Flip", "vertical")]),
        ("mirror it; then rotate 90 degrees", [("Flip", "horizontal"), ("Rotate", 90.0)]),
        ("keep the left half", [("Crop", (0.0, 0.0, 0.5, 0.0), "share", None, None)]),
        ("crop to the left half of the image", [("Crop", (0.0, 0.0, 0.5, 0.0), "share", None, None)]),
        ("cut off the top 20%", [("Crop", (0.0, 0.2, 0.0, 0.0), "share", None, None)]),
        ("crop 8 pixels from each side", [("Crop", (8.0, 8.0, 8.0, 8.0), "pixels", None, None)]),
        ("crop to a square", [("Crop", (0.0, 0.0, 0.0, 0.0), "share", 1.0, None)]),
        ("resize to 640x480", [("Resize", None, 640, 480)]),
        ("reduce the size by 20%", [("Resize", 0.8, None, None)]),
        ("enlarge it 2x", [("Resize", 2.0, None, None)]),
        ("make it smaller by 25%", [("Resize", 0.75, None, None)]),
        ('Write "Hello, and goodbye" at the top in red',
         [("Write", "Hello, and goodbye", "top", "middle", RED, 0.12)]),
        ("Add the text 'It's' in the lower right corner", [("Write", "It's", "bottom", "right", None, 0.12)]),
        ("make it 20 percent brighter and keep everything else the same", [("Light", 1.2)]),
        ("把图片调亮30%", [("Light", 1.3)]),
        ("亮度和对比度提高20%", [("Light", 1.2), ("Contrast", 1.2)]),
        ("亮度降低百分之三十再锐化", [("Light", 0.7), ("Sharpen", 0.8)]),
        ("饱和度提高一倍", [("Saturation", 2.0)]),
        ("将图像逆时针旋转四十五度，然后水平翻转", [("Rotate", -45.0), ("Flip", "horizontal")]),
        ("把照片变成黑白并加上暗角", [("Grayscale",), ("Vignette", 0.5)]),
        ("上下翻转，并稍微模糊一下", [("Flip", "vertical"), ("Blur", 1.25)]),
        ("给图片染上蓝色，其他保持不变", [("Tint", BLUE, 0.3)]),
        ("裁掉左边20%", [("Crop", (0.2, 0.0, 0.0, 0.0), "share", None, None)]),
        ("缩小到一半", [("Resize", 0.5, None, None)]),
        ("在图片左上角添加红色文字“你好，世界”", [("Write", "你好，世界", "top", "left", RED, 0.12)]),
    ],
)  # fmt: skip
def test_an_instruction_is_read(instruction: str, operations: list[tuple[object, ...]]) -> None:
    found = read(instruction)

    assert [each[0] for each in found] == [each[0] for each in operations]
    for got, wanted in zip(found, operations, strict=True):
        assert got == pytest.approx(wanted) if all(isinstance(value, float) for value in wanted[1:]) else got == wanted


def test_an_amount_that_was_only_said_in_words_is_known_to_be_one_of_many_right_answers() -> None:
    (stated,), (said,) = parse("darken by 30%"), parse("make it darker")

    assert (stated.loose, said.loose) == (False, True)


@pytest.mark.parametrize(
    ("instruction", "named"),
    [
        ("replace the cat with a dog", ["'replace'", "'cat'", "'dog'"]),
        ("brighten it and remove the cat", ["'cat'"]),
        ("make the sky blue", ["'sky'"]),
        ("don't blur it", ["don't"]),
        ("把猫换成狗", ["猫"]),
        ("调亮30%并去掉背景里的人", ["背景", "人"]),
        ("brighten the left side", ["'left'", "light"]),
        ("darken the corner", ["'corner'"]),
        ("blur half of the image", ["'half of the image'"]),
        ("把左边调亮", ["'左边'"]),
        ("brighten by 30% in red", ["'red'", "light"]),
        ("rotate 90 degrees by 20%", ["'20%'"]),
        ("brighten blur", ["'brighten' and 'blur'", "'and' or a comma"]),
        ("brighten it by 20% by 30%", ["'20%' and '30%'"]),
        ("", ["empty"]),
        ("   ", ["empty"]),
        ("please make it", ["names nothing to change"]),
        ("enhance the image", ["does not say what to change"]),
        ("contrast", ["more or less"]),
        ("rotate", ["by how many degrees"]),
        ("flip it", ["horizontally or vertically"]),
        ("write a caption", ["quotation marks"]),
        ("tint it", ["colour"]),
        ("brighten by 0%", ["no change"]),
        ("rotate 360 degrees", ["no change"]),
        ("darken by 100%", ["0.02 to 50"]),
        ("blur by 5000 pixels", ["0.3 to 100"]),
        ("crop 60% from each side", ["leaves nothing"]),
        ("posterize to 1 level", ["2 to 32"]),
    ],
)
def test_what_is_not_understood_is_named(instruction: str, named: list[str]) -> None:
    with pytest.raises(NotUnderstood) as caught:
        parse(instruction)

    for words in named:
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


ODD = ["30%", "2x", "1/0", "90°", "5 px", "“字”", '"', "3:0", "0", "cat"]
WORDS = [*sorted({phrase for phrase, _, _ in phrases()}), *ODD]


@settings(max_examples=80, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)))
def test_whatever_is_asked_is_operations_or_a_refusal_in_one_line(instruction: str) -> None:
    try:
        done, said = parse(instruction), ""
    except NotUnderstood as error:
        done, said = [], str(error)

    assert all(isinstance(each, asked.Operation) for each in done)
    assert bool(done) != bool(said)
    assert "\n" not in said.replace(instruction, "")


def test_every_example_of_the_recipe_is_understood() -> None:
    table = (Path(__file__).parents[3] / "docs" / "recipes" / "edit-instructions.md").read_text().partition("## How")[0]
    rows = [line.split("|")[2:4] for line in table.splitlines() if line.startswith("| ") and "in English" not in line]

    examples = [each for cells in rows for cell in cells for each in re.split(r"[,;] ", cell.strip())]
    assert len(examples) > 50
    for example in examples:
        assert parse(example), example
