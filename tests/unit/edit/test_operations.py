"""Each operation does to the pixels what its name says; what cannot be done is an error in words."""

import numpy as np
import pytest
from PIL import Image

from jobs.edit.adapters.base import EditRequest
from jobs.edit.procedural import ProceduralEditor
from tests.unit.edit.photos import edit, photograph


def mean(image: Image.Image) -> float:
    return float(np.asarray(image.convert("L"), np.float32).mean())


def test_turns_and_flips_lose_nothing_and_undo_each_other() -> None:
    wide = photograph().crop((0, 0, 96, 60))

    assert edit(wide, "rotate 90 degrees clockwise").size == (60, 96)
    for there_and_back in (
        "rotate 90 degrees clockwise and rotate 90 degrees counterclockwise",
        "turn it upside down, then turn it upside down",
        "flip horizontally, then mirror it",
        "flip vertically, rotate 180 degrees and flip horizontally",
    ):
        assert edit(wide, there_and_back).tobytes() == wide.tobytes(), there_and_back


def test_clockwise_is_clockwise_and_horizontally_changes_left_and_right() -> None:
    image = Image.new("RGB", (9, 9))
    image.putpixel((8, 0), (255, 0, 0))  # top right

    assert edit(image, "rotate 90 degrees clockwise").getpixel((8, 8)) == (255, 0, 0)
    assert edit(image, "flip horizontally").getpixel((0, 0)) == (255, 0, 0)
    assert edit(image, "flip vertically").getpixel((8, 8)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("instruction", "size"),
    [
        ("crop the left half", (48, 96)),
        ("crop 25% from the top", (96, 72)),
        ("crop 8 pixels from each side", (80, 80)),
        ("crop to 2:1", (96, 48)),
        ("crop to 40x30", (40, 30)),
        ("resize to 50%", (48, 48)),
        ("resize to 30 pixels wide", (30, 30)),
        ("resize to 20x30", (20, 30)),
        ("rotate 20 degrees", (96, 96)),
    ],
)
def test_sizes_are_as_asked(instruction: str, size: tuple[int, int]) -> None:
    assert edit(photograph(), instruction).size == size


def test_a_text_is_written_at_its_place_in_its_colour_and_always_fits() -> None:
    image = photograph()

    marked = np.asarray(edit(image, 'write "ok" in blue in the lower right corner'), int)

    changed = np.abs(marked - np.asarray(image, int)).max(axis=2) > 60
    rows, columns = np.nonzero(changed)
    assert rows.min() > 70
    assert columns.min() > 60
    assert marked[changed][:, 2].mean() > marked[changed][:, 0].mean() + 60
    long = np.asarray(edit(image, 'write "twenty-two letters long" at the top'), int)
    assert not np.abs(long - np.asarray(image, int))[:, :2].any()


def test_a_picture_stays_rgb_whatever_is_done_to_it() -> None:
    everything = (
        "brighten, darken, more contrast, saturate, desaturate, warmer, cooler, black and white, sepia, invert, "
        "tint it red, shift the hue by 30 degrees, blur, sharpen, posterize, vignette, rotate 10 degrees, mirror, "
        'crop 5% from each side, resize to 80%, write "x"'
    )

    assert edit(photograph(), everything).mode == "RGB"


def one(image: Image.Image, instruction: str) -> EditRequest:
    return EditRequest(image, instruction, "", 0, "", "")


def test_the_editor_answers_each_request_alone_and_in_order() -> None:
    image = photograph()
    editor = ProceduralEditor()
    editor.load()

    done, unknown, empty, impossible, glyphs, long = editor.edit_batch(
        [
            one(image, "brighten by 30%"),
            one(image, "make the cat smile"),
            one(image, ""),
            one(image, "crop to 300x300"),
            one(image, 'write "\U0001f9ff" at the top'),
            one(image, f'write "{"long " * 18}" at the top'),
        ]
    )

    assert done.image is not None
    assert done.image.tobytes() == editor.edit_batch([one(image, "brighten by 30%")])[0].image.tobytes()
    assert mean(done.image) > 1.2 * mean(image)
    for result, said in (
        (unknown, "'smile'"),
        (empty, "empty"),
        (impossible, "300x300"),
        (glyphs, "font"),
        (long, "fit"),
    ):
        assert result.image is None
        assert said in str(result.error)
