"""The measured scorer puts what was asked above half of it, that above nothing, and that above the opposite."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.edit import measure
from jobs.edit.adapters.base import Scored, ScoreRequest
from jobs.edit.measure.finding import adherence
from jobs.edit.measured import MeasuredScorer
from tests.unit.edit.photos import edit, photograph

SCORER = MeasuredScorer()


def score(original: Image.Image, edited: Image.Image, instruction: str) -> Scored:
    return SCORER.score_batch([ScoreRequest(original, edited, instruction, "", "", "", 0)])[0]


ORDERS = [  # asked | half of it | the opposite | far too much; "-" where there is no such thing
    "brighten by 40% | brighten by 20% | darken by 30% | brighten by 150%",
    "make it brighter | brighten by 10% | darken by 30% | brighten by 200%",
    "darken by 40% | darken by 20% | brighten by 40% | darken by 85%",
    "increase contrast by 50% | increase contrast by 22% | reduce contrast by 40% | increase contrast by 300%",
    "reduce contrast by 50% | reduce contrast by 25% | increase contrast by 50% | reduce contrast by 90%",
    "increase saturation by 60% | increase saturation by 25% | reduce saturation by 50% | increase saturation by 500%",
    "reduce saturation by 60% | reduce saturation by 30% | increase saturation by 60% | grayscale",
    "grayscale | reduce saturation by 50% | increase saturation by 60% | -",
    "sepia | - | increase saturation by 60% | -",
    "invert | - | increase contrast by 60% | -",
    "shift the hue by 90 degrees | shift the hue by 40 degrees | shift the hue by -90 degrees "
    "| shift the hue by 170 degrees",
    "tint it blue by 40% | tint it blue by 12% | tint it orange by 40% | -",
    "make it warmer | make it warmer by 6% | cooler | make it warmer by 80%",
    "make it cooler | make it cooler by 6% | warmer | make it cooler by 80%",
    "blur by 2 pixels | blur by 1 pixels | sharpen | blur by 8 pixels",
    "sharpen by 100% | sharpen by 30% | blur by 2 pixels | -",
    "posterize to 4 levels | posterize to 10 levels | - | posterize to 2 levels",
    "vignette by 40% | vignette by 15% | - | vignette by 100%",
    "rotate 40 degrees clockwise | rotate 20 degrees clockwise | rotate 40 degrees to the left | rotate 80 degrees",
    "rotate 90 degrees | rotate 45 degrees | rotate 90 degrees to the left | rotate 180 degrees",
    "rotate 10 degrees to the left | rotate 5 degrees to the left | rotate 10 degrees | rotate 20 degrees to the left",
    "flip horizontally | - | flip vertically | -",
    "flip vertically | - | flip horizontally | -",
    "crop the left half | crop 25% from the right | crop the right half | crop 75% from the right",
    "crop 20% from the top | crop 10% from the top | crop 20% from the bottom | crop 60% from the top",
    "crop to the central 50% | crop to the central 75% | - | crop to the central 25%",
    "resize to 50% | resize to 75% | resize to 150% | resize to 20%",
    'write "2026" in red at the top | write "20" in red at the top | write "2026" in red at the bottom | -',
    "vignette and grayscale | vignette | saturate | -",
    "rotate 30 degrees and brighten by 40% | brighten by 40% | rotate 30 degrees to the left and darken by 40% | -",
    "invert, crop the right half and flip horizontally | invert and crop the right half | - | -",
]


def damaged(right: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Pictures that are no such edit, of the right size."""
    noise = np.random.default_rng(0).integers(0, 256, (right.height, right.width, 3), dtype=np.uint8)
    yield "noise", Image.fromarray(noise)
    yield "one colour", Image.new("RGB", right.size, tuple(np.asarray(right).reshape(-1, 3).mean(0).astype(int)))
    yield "one pixel", right.resize((1, 1))
    yield "another picture", photograph("coffee.png").resize(right.size)


@pytest.mark.parametrize(
    ("order", "name"),
    [(order, "chelsea.png") for order in ORDERS] + [(order, "astronaut.png") for order in ORDERS[::10]],
    ids=lambda value: value.split(" | ")[0],
)
def test_right_is_above_half_is_above_nothing_is_above_the_opposite(order: str, name: str) -> None:
    asked, half, opposite, too_much = order.split(" | ")
    original = photograph(name)
    right = edit(original, asked)

    found = [score(original, right, asked)]
    found += [score(original, edit(original, half), asked)] if half != "-" else []
    found += [score(original, original, asked)]
    found += [score(original, edit(original, opposite), asked)] if opposite != "-" else []

    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores), found
    assert scores[0] >= 8.5, found[0]
    assert score(original, original, asked).score <= 1.5
    if too_much != "-":
        assert score(original, edit(original, too_much), asked).score < scores[0] - 1


@pytest.mark.parametrize("asked", [order.split(" | ")[0] for order in ORDERS[::3]])
def test_a_picture_that_is_no_such_edit_scores_low(asked: str) -> None:
    original = photograph()

    for what, picture in damaged(edit(original, asked)):
        found = score(original, picture, asked)
        small = what == "one pixel" and found.score is None  # a crop might have been right, and cannot be measured
        assert small or found.score < 3.5, (what, found)


def test_what_was_not_asked_costs_preservation_and_is_told() -> None:
    original = photograph()
    right = edit(original, "flip horizontally")
    patched = right.copy()
    patched.paste(photograph("coffee.png").resize((48, 48)), (20, 20))

    kept, dull, patched_score = (
        score(original, each, "flip horizontally") for each in (right, edit(right, "black and white"), patched)
    )

    assert kept.parts == {"adherence": 10.0, "preservation": 10.0}
    assert (kept.score, kept.error) == (10.0, None)
    assert dull.parts["adherence"] == 10.0
    assert dull.parts["preservation"] < 6
    assert patched_score.parts["preservation"] < 7
    assert kept.words.startswith("Flipped horizontally. The rest is well kept (SSIM 1.00")
    assert "colours off by" in dull.words


def test_the_score_is_the_geometric_mean_of_its_parts() -> None:
    original = photograph()

    found = score(original, edit(original, "brighten by 15% and blur by 1 pixels"), "brighten by 30%")

    product = found.parts["adherence"] * found.parts["preservation"]
    assert found.score == pytest.approx(product**0.5, abs=0.02)
    assert 0 < found.score < 9


def test_another_way_to_do_the_same_is_as_right() -> None:
    original = photograph()
    pixels = np.asarray(original, np.float32)
    lighter = Image.fromarray(np.clip(pixels + 0.3 * pixels.mean(), 0, 255).astype(np.uint8))  # added, not multiplied
    gray = Image.fromarray(np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8))
    grown = original.rotate(-30, Image.Resampling.BILINEAR, expand=True, fillcolor="white")
    cropped = original.crop((0, 0, 48, 96)).resize((512, 1024))  # as a model answers that knows one size

    assert score(original, lighter, "brighten by 30%").score > 8
    assert score(original, gray, "make it black and white").score > 9
    assert score(original, grown, "rotate 30 degrees clockwise").score > 9
    assert score(original, cropped, "keep the left half").score > 9


@pytest.mark.parametrize(
    ("original", "instruction", "said"),
    [
        (Image.new("RGB", (1, 1)), "brighten", "at least 16 x 16"),
        (Image.new("RGB", (64, 64), (90, 90, 90)), "rotate 90 degrees", "looks the same"),
        (Image.new("RGB", (64, 64), (90, 90, 90)), "grayscale", "no colour"),
        (Image.new("RGB", (64, 64), (90, 90, 90)), "more contrast", "one tone"),
        (Image.new("RGB", (64, 64), (90, 90, 90)), "blur by 2 pixels", "no fine detail"),
        (photograph(), "make the cat smile", "'smile'"),
        (photograph(), "resize to 96x96", "about the size"),
        (photograph(), "crop to 500x500", "500x500"),
    ],
)
def test_what_cannot_be_measured_is_an_error_and_never_a_score(
    original: Image.Image, instruction: str, said: str
) -> None:
    found = score(original, original, instruction)

    assert found.score is None
    assert said in str(found.error)
    assert not found.unparsable


@settings(max_examples=12, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    order=st.sampled_from(ORDERS),
    seed=st.integers(0, 9),
)
def test_any_picture_gets_a_score_or_a_reason(size: tuple[int, int], order: str, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)

    found = score(photograph(), Image.fromarray(noise), order.split(" | ")[0])

    assert (found.score is None) == bool(found.error)
    assert found.score is None or 0 <= found.score <= 10


def test_the_share_that_was_done_orders_the_adherence() -> None:
    shares = [1.0, 0.7, 0.5, 0.2, 0.0, -0.1, -0.2]

    values = [adherence(share) for share in shares]

    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
    assert adherence(1.2) == 1.0 > adherence(1.6) > adherence(3.0) > adherence(0.0)
    assert adherence(float("nan")) == adherence(-5.0) == 0.0


def test_the_scorer_never_uses_the_editors_code() -> None:
    for path in Path(measure.__file__).parent.glob("*.py"):
        imported = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not any("operations" in str(node.module) for node in imported), path


@pytest.mark.parametrize(
    "instruction",
    [
        "black and white and increase the saturation by 40%",
        "make it warmer and tint it blue",
        "blur by 2 pixels and sharpen",
        'write "2026" at the top, then blur by 3 pixels',
        "brighten by 20%, rotate 90 degrees and darken by 10%",
    ],
)
def test_what_cannot_be_told_apart_in_one_picture_is_said_instead_of_measured_wrongly(instruction: str) -> None:
    original = photograph()

    found = score(original, edit(original, instruction), instruction)

    assert found.score is None
    assert "cannot be told apart" in str(found.error)


@pytest.mark.parametrize(
    "instruction",
    [
        "darken by 30% and invert",
        "crop the left half and rotate 30 degrees",
        "invert and vignette",
        "increase contrast by 30% and make it warmer",
        'blur by 2 pixels and write "2026" at the top',
        "rotate 90 degrees, sepia and sharpen",
        "resize to 50% and increase saturation by 40%",
    ],
)
def test_operations_in_one_instruction_do_not_disturb_each_others_measures(instruction: str) -> None:
    original = photograph("chelsea.png", 160)

    found = score(original, edit(original, instruction), instruction)

    assert found.score > 8, found
