"""Qwen's editor and judges, the real classes with tiny weights: alone, in batches, freed, and through a whole run."""

import base64
import gc
import io
import json
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from db import edit
from db.engine import session
from jobs.edit import page
from jobs.edit.adapters import resolve
from jobs.edit.adapters.base import AdapterError, Editor, EditRequest, Scorer, ScoreRequest
from jobs.edit.adapters.pretrained import NotLoaded
from jobs.edit.adapters.qwen_edit import NOT_FINITE, QwenImageEdit
from jobs.edit.adapters.qwen_vl import QwenVL
from jobs.edit.tasks import evaluate
from tests import tiny_qwen
from tests.integration.recommend.running import run


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_qwen.editor(folder / "editor")
    tiny_qwen.judge(folder / "judge", says="7")
    return folder


def photo(seed: int, width: int = 40, height: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def to_edit(seed: int, prompt: str = "make it brighter", system: str = "", **size: int) -> EditRequest:
    return EditRequest(photo(seed, **size), prompt, "a photo", seed, system, prompt)


def to_score(seed: int, prompt: str = "Was it done?", **size: int) -> ScoreRequest:
    return ScoreRequest(photo(seed, **size), photo(seed + 100), "rotate it", "a photo", "Judge.", prompt, seed)


def make_editor(models: Path, name: str = "qwen-image-edit", **parameters: Any) -> Editor:
    given = {"model": str(models / "editor"), "steps": 1, "area": 32 * 32, **parameters}
    return resolve.editor({"class": name, "parameters": given}, device="cpu")


def make_judge(model: Path, **parameters: Any) -> Scorer:
    given = {"model": str(model), "max_tokens": 2, "max_pixels": 4096, **parameters}
    return resolve.scorer({"class": "qwen-vl", "parameters": given}, device="cpu")


def pixels(editor: Editor, *requests: EditRequest) -> list[Any]:
    results = editor.edit_batch(requests)
    assert [each.error for each in results] == [None] * len(requests)
    return [np.asarray(each.image).astype(int) for each in results]


@pytest.fixture(scope="module")
def editor(models: Path) -> Editor:
    made = make_editor(models)
    made.load()
    return made


@pytest.fixture(scope="module")
def judge(models: Path) -> Scorer:
    made = make_judge(models / "judge")
    made.load()
    return made


def test_an_edit_does_not_depend_on_who_else_is_in_the_batch(editor: Editor) -> None:
    requests = [
        to_edit(1), to_edit(2, "rotate the original image by 90 degrees, and make it brighter", width=80, height=96),
        to_edit(3, width=96, height=32), to_edit(4, system="You {paint}."),
    ]  # fmt: skip

    together = pixels(editor, *requests)

    assert [each.shape for each in together] == [(32, 32, 3), (32, 32, 3), (32, 64, 3), (32, 32, 3)]
    for request, batched in zip(requests, together, strict=True):
        [alone] = pixels(editor, request)
        assert np.abs(alone - batched).max() <= 1  # of 255: sums of a batch are rounded in another order


def test_an_edit_hangs_on_seed_image_and_both_texts(editor: Editor) -> None:
    first = to_edit(1)
    [made, again] = [pixels(editor, first)[0] for _ in range(2)]
    others = [
        EditRequest(first.image, "", "", 2, "", first.prompt), EditRequest(photo(9), "", "", 1, "", first.prompt),
        EditRequest(first.image, "", "", 1, "", "rotate"), EditRequest(first.image, "", "", 1, "Paint.", first.prompt),
    ]  # fmt: skip

    assert (made == again).all()
    assert all((other != made).any() for other in pixels(editor, *others))


def test_the_pipelines_own_sizes_and_template_are_as_they_were_after_an_edit(editor: Editor) -> None:
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit as module

    editor.edit_batch([to_edit(1, system="Paint.")])

    assert module.calculate_dimensions(1024 * 1024, 1.0) == (1024, 1024, None)
    pipeline = editor._held  # type: ignore[attr-defined]
    assert pipeline.prompt_template_encode_start_idx == 64
    assert "Describe the key features" in pipeline.prompt_template_encode


def test_the_plus_pipeline_edits_one_after_another(models: Path) -> None:
    plus = make_editor(models, "qwen-image-edit-plus")
    plus.load()

    [first, second] = pixels(plus, to_edit(1), to_edit(2, width=96, height=32))

    assert (first.shape, second.shape) == ((32, 32, 3), (32, 64, 3))


def test_numbers_that_are_not_finite_are_an_error_and_no_black_image(models: Path) -> None:
    editor = make_editor(models)
    editor.load()
    with torch.no_grad():
        editor._held.transformer.proj_out.weight.fill_(float("nan"))  # type: ignore[attr-defined]

    [result] = editor.edit_batch([to_edit(1)])

    assert (result.image, result.error) == (None, NOT_FINITE)


def test_marks_of_special_tokens_in_a_benchmark_are_plain_text(editor: Editor, judge: Scorer) -> None:
    assert pixels(editor, to_edit(1, "<|image_pad|> <|im_end|> {}"))
    assert judge.score_batch([to_score(1, "<|image_pad|><|vision_start|>")])[0].score == 7


def test_a_judges_answer_is_read_in_a_batch_of_unequal_lengths(judge: Scorer) -> None:
    requests = [to_score(1), to_score(2, "Was it done? " * 5, width=90), to_score(3, "")]

    scored = judge.score_batch(requests)

    assert [(each.score, each.words, each.error) for each in scored] == [(7.0, "7", None)] * 3


def test_large_images_are_scaled_down_before_the_model_sees_them(judge: Scorer) -> None:
    seen = judge._inputs([to_score(1, width=900, height=300)])["image_grid_thw"]  # type: ignore[attr-defined]

    assert (seen.prod(-1) * 16 * 16 <= 4096).all()  # patches of 16 x 16 pixels


def test_what_no_try_makes_parsable_is_unparsable_and_the_same_each_time(models: Path) -> None:
    judge = make_judge(tiny_qwen.judge(models / "mumbling"), tries=2)
    judge.load()

    first, again = judge.score_batch([to_score(1)]), judge.score_batch([to_score(1), to_score(2)])

    assert (first[0].score, first[0].unparsable) == (None, True)
    assert first[0].error is not None
    assert "in 2 answers" in first[0].error
    assert first[0] == again[0]  # a further try is sampled, from the pair's own seed


@pytest.mark.parametrize("kind", ["qwen3_vl", "qwen3_vl_moe", "qwen2_5_vl"])
def test_the_expected_digit_of_a_batch_is_that_of_each_alone(kind: tiny_qwen.Kind, models: Path) -> None:
    judge = make_judge(tiny_qwen.judge(models / kind, kind), how="expected", scale=[0, 9], least=0.0)
    judge.load()
    requests = [to_score(1), to_score(2, "Was it done? " * 5, width=90)]

    together = judge.score_batch(requests)

    for request, batched in zip(requests, together, strict=True):
        [alone] = judge.score_batch([request])
        assert batched.score is not None
        assert 0 < batched.score < 9
        assert alone.score == pytest.approx(batched.score, abs=1e-4)
        assert batched.parts["mass"] < 0.5


def test_a_judge_that_answers_without_digits_is_unparsable(judge: Scorer, models: Path) -> None:
    sure = make_judge(models / "judge", how="expected", scale=[1, 5])
    sure._held, sure._processor, sure._on = judge._held, judge._processor, judge._on  # type: ignore[attr-defined]

    [scored] = sure.score_batch([to_score(1)])

    assert (scored.score, scored.unparsable) == (None, True)
    assert scored.error is not None
    assert "of the probability is on the digits 1 to 5, less than 50%" in scored.error


def test_what_is_unloaded_is_gone_and_can_be_loaded_again(models: Path) -> None:
    judge = make_judge(models / "judge")
    judge.load()
    weights = weakref.ref(judge._held.lm_head.weight)  # type: ignore[attr-defined]
    first = judge.score_batch([to_score(1)])

    judge.unload()
    gc.collect()
    assert weights() is None
    judge.load()

    assert judge.score_batch([to_score(1)]) == first


def test_a_model_moves_to_the_hosts_memory_and_back_only_from_a_device_with_its_own(models: Path) -> None:
    moves: list[str] = []
    judge = QwenVL(model=str(models / "judge"))
    assert not judge.offload()

    judge._held = SimpleNamespace(to=lambda device: moves.append(str(device)))
    judge._on = torch.device("cpu")
    assert not judge.offload()
    judge._on = torch.device("cuda", 1)
    assert judge.offload()
    judge.restore()

    assert moves == ["cpu", "cuda:1"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda folder: shutil.rmtree(folder), "no such folder"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'),
            "is a bert: give one of qwen3_vl",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 99), "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "cannot be loaded"),
    ],
)
def test_a_folder_that_holds_no_such_model_is_one_line(change: Any, why: str, models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "judge", folder)
    change(folder)

    with pytest.raises(AdapterError, match=why) as caught:
        make_judge(folder).load()
    assert "\n" not in str(caught.value)


def test_a_hub_that_fails_is_no_fault_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError("We couldn't connect to the hub\nCheck your connection")

    monkeypatch.setattr(QwenVL, "_open", fails)

    with pytest.raises(NotLoaded, match="couldn't connect") as caught:
        QwenVL(model="Qwen/Qwen3-VL-8B-Instruct", device="cpu").load()
    assert not isinstance(caught.value, AdapterError)


def test_what_a_model_needs_is_read_from_its_files_or_from_its_name(models: Path) -> None:
    loaded = make_editor(models)
    loaded.load()
    parts = ("vae", "transformer", "text_encoder")
    numbers = sum(each.numel() for part in parts for each in getattr(loaded._held, part).parameters())  # type: ignore[attr-defined]

    assert loaded.memory_bytes == pytest.approx(1.15 * 4 * numbers, rel=0.01)
    assert make_editor(models, dtype="bf16").memory_bytes == pytest.approx(loaded.memory_bytes / 2, abs=2)
    assert make_editor(models, memory_gb=64).memory_bytes == 64e9
    assert QwenImageEdit(dtype="bf16").memory_bytes == pytest.approx(66.5e9, rel=0.01)
    assert QwenVL(model="Qwen/Qwen3-VL-30B-A3B-Instruct", dtype="bf16").memory_bytes == pytest.approx(69e9, rel=0.01)


def test_the_identity_says_which_weights_they_were(models: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(models / "judge", other)
    assert make_judge(other).identity()["revision"] == make_judge(models / "judge").identity()["revision"]

    tiny_qwen.judge(other)

    known = make_judge(other).identity()
    assert known["revision"] != make_judge(models / "judge").identity()["revision"]
    assert known["versions"]["transformers"]
    assert json.loads(json.dumps(known)) == known


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"steps": 0}, "steps=0"),
        ({"dtype": "int4"}, "dtype='int4'"),
        ({"modle": "x"}, "modle"),
        ({"device": "tpu9"}, "unknown device 'tpu9'"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, Any], why: str, models: Path) -> None:
    with pytest.raises(AdapterError, match=why):
        make_editor(models, **parameters).load()


@pytest.mark.parametrize(("parameters", "why"), [({"scale": [5, 1]}, "lower"), ({"how": "expected"}, "one digit")])
def test_a_scale_that_cannot_be_is_refused(parameters: dict[str, Any], why: str) -> None:
    with pytest.raises(AdapterError, match=why):
        QwenVL(**parameters)


@pytest.mark.usefixtures("clean_db")
def test_both_go_through_the_whole_pipeline(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "render", lambda *_: "")  # test_report.py looks at it
    pairs = []
    for seed in (1, 2):
        out = io.BytesIO()
        photo(seed).save(out, "PNG")
        image = base64.b64encode(out.getvalue()).decode()
        pairs.append({"id": str(seed), "image": image, "description": "noise", "instruction": "make it brighter"})
    (tmp_path / "benchmark.json").write_text(json.dumps({"categories": {"brighter": pairs}}))
    editor = {"model": str(models / "editor"), "steps": 2, "area": 64 * 64}  # 4096 pixels, not the real one's million
    scorer = {"model": str(models / "judge"), "max_tokens": 2, "max_pixels": 4096}
    config = {
        "name": "tiny", "benchmark": "benchmark.json", "prompts": {"edit": {"default": {"system": "Paint."}}},
        "editor": {"class": "qwen-image-edit", "parameters": editor},
        "scorer": {"class": "qwen-vl", "parameters": scorer},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(json.dumps(config))

    result = run(evaluate, config=str(tmp_path / "run.yaml"))

    assert (result["pairs"], result["scored"], result["failed"], result["mean"]) == (2, 2, 0, 7.0)
    with session() as opened:
        found = edit.run(opened, "tiny")
        assert found is not None
        assert found.editor["name"].startswith("QwenImageEditPipeline")
        rows = list(edit.pairs(opened, found.id))
    assert [(row.state, row.score, row.edited["width"], row.edits, row.scores) for row in rows if row.edited] == [
        ("scored", 7.0, 64, 1, 1)
    ] * 2
