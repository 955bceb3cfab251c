"""The sample benchmark is the same each time, can be edited and scored, and grows without being held in memory."""

import json
from pathlib import Path

import pytest

from jobs.edit.adapters.base import EditRequest, ScoreRequest
from jobs.edit.grammar import parse
from jobs.edit.images import decode, from_base64
from jobs.edit.measured import MeasuredScorer
from jobs.edit.procedural import ProceduralEditor
from jobs.edit.sample import CATEGORIES, _amounts, write


def test_a_sample_has_five_categories_of_photographs_in_files_or_in_the_benchmark_itself(tmp_path: Path) -> None:
    run = write(tmp_path / "a", 2, size=48)
    write(tmp_path / "b", 3, size=48, inline=False)

    assert run.name == "run.yaml"
    inline, files = (json.loads((tmp_path / name / "benchmark.json").read_text())["categories"] for name in "ab")
    assert list(inline) == ["colour", "light", "geometry", "focus", "text"]
    assert [len(pairs) for pairs in inline.values()] == [2] * 5
    assert len({pair["id"] for pairs in files.values() for pair in pairs}) == 15
    for category, pairs in inline.items():
        for pair, other in zip(pairs, files[category], strict=False):  # more pairs leave the first ones as they are
            image, notes = from_base64(pair["image"])
            assert (image.size, notes) == ((48, 48), [])
            assert image.tobytes() == decode((tmp_path / "b" / other["image_path"]).read_bytes())[0].tobytes()
            assert pair["instruction"] == other["instruction"]


def test_the_same_seed_writes_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / name, 1, seed, size=48)
        texts.append((tmp_path / name / "benchmark.json").read_bytes())

    assert texts[0] == texts[1] != texts[2]


def test_every_instruction_of_the_sample_is_understood() -> None:
    from random import Random

    for english, chinese in CATEGORIES.values():
        for template in (*english, *chinese):
            assert parse(template.format(**_amounts(Random(template))))


def test_the_embedded_editor_and_scorer_do_well_on_it(tmp_path: Path) -> None:
    write(tmp_path, 2, seed=3, size=96)
    benchmark = json.loads((tmp_path / "benchmark.json").read_text())["categories"]
    editor, scorer = ProceduralEditor(), MeasuredScorer()

    for pair in (pair for pairs in benchmark.values() for pair in pairs):
        image, _ = from_base64(pair["image"])
        asked = pair["instruction"]
        edited = editor.edit_batch([EditRequest(image, asked, "", 0, "", "")])[0].image
        done = scorer.score_batch([ScoreRequest(image, edited, asked, "", "", "", 0)])[0]
        left = scorer.score_batch([ScoreRequest(image, image, asked, "", "", "", 0)])[0]

        assert done.score > 8 > 3 > left.score, (asked, done, left)


@pytest.mark.parametrize("wrong", [{"pairs_per_category": 0}, {"size": 8}])
def test_a_sample_that_makes_no_sense_is_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        write(tmp_path, **wrong)
