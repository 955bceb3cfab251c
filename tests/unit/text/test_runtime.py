"""The torch-free predictor, on a tiny transformer that is exported on the spot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.text import artifact, export, machine, models, runtime
from jobs.text.artifact import Loaded
from jobs.text.network import Classifier
from tests.unit.text import tiny

ROOT = Path(__file__).parents[3]
TEXTS = [text for text, _ in tiny.rows(40, seed=5)] + ["很", "good " * 90, ""]


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    encoder = tiny.encoder()
    facts = {
        "kind": "classify",
        "architecture": "tiny",
        "classes": list(tiny.CLASSES),
        "reading": {"max_length": 16, "prefix": "the "},
    }
    model = Classifier(encoder.model, 2).eval()
    return Loaded(model, encoder.tokenizer, tiny.CLASSES, facts, torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(loaded: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("onnx")
    export.export(loaded, made / runtime.MODEL, TEXTS)
    loaded.tokenizer.backend_tokenizer.save(str(made / runtime.TOKENIZER))
    write(made, loaded.manifest | {"form": "onnx", "reading": loaded.manifest["reading"] | {"pad": 0}})
    return made


def write(folder: Path, facts: dict[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps(facts))


def test_it_says_what_torch_says_in_the_texts_order(loaded: Loaded, folder: Path) -> None:
    found = runtime.Predictor.load(folder, threads=1).logits(TEXTS)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, loaded.logits(TEXTS), atol=1e-5)


def test_an_answer_has_the_label_its_probability_the_best_k_and_whether_the_text_was_cut(folder: Path) -> None:
    predictor = runtime.Predictor.load(folder)

    short, long = predictor.predict(["good", "good " * 90], top_k=2)

    assert predictor.classes == tiny.CLASSES
    assert [each["label"] for each in short["top"]] in (["positive", "negative"], ["negative", "positive"])
    assert short["label"] == short["top"][0]["label"]
    assert short["probability"] >= 0.5
    assert sum(each["probability"] for each in short["top"]) == pytest.approx(1)
    assert (short["truncated"], long["truncated"]) == (False, True)
    assert predictor.predict([]) == []


def test_a_text_of_a_megabyte_is_cut_and_said_to_be(folder: Path) -> None:
    assert runtime.Predictor.load(folder).predict(["x" * 2**20])[0]["truncated"]


def test_both_forms_are_opened_alike(
    loaded: Loaded, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path, loaded.manifest)
    monkeypatch.setattr(artifact, "load_model", lambda *_: loaded)

    by_torch, by_onnx = models.open_model(tmp_path), models.open_model(folder)

    assert isinstance(by_onnx, runtime.Predictor)
    for one, other in zip(by_torch.predict(TEXTS, 2), by_onnx.predict(TEXTS, 2), strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
        assert one["truncated"] == other["truncated"]


@pytest.mark.parametrize("lost", ["model.onnx", "tokenizer.json", "manifest.json"])
def test_a_folder_that_lacks_a_file_is_refused_in_one_line(folder: Path, tmp_path: Path, lost: str) -> None:
    for each in folder.iterdir():
        if each.name != lost:
            (tmp_path / each.name).write_bytes(each.read_bytes())

    with pytest.raises(ValueError, match=r"holds no (usable ONNX )?classifier") as caught:
        models.open_model(tmp_path)

    assert "\n" not in str(caught.value)


def probed(folder: Path, place: Path, logits: np.ndarray[Any, Any], **made_on: Any) -> Path:
    """The same model as one that was quantized on a machine of other instructions."""
    for name in (runtime.MODEL, runtime.TOKENIZER):
        (place / name).write_bytes((folder / name).read_bytes())
    there = machine.describe() | {"flags": ["avx2"]} | made_on
    write(place, json.loads((folder / "manifest.json").read_text()) | {"machine": there})
    probe = {"texts": TEXTS, "logits": logits.tolist(), "agreement": 0.98}
    (place / runtime.PROBE).write_text(json.dumps(probe))
    return place


def test_a_model_of_another_machine_is_taken_when_its_probe_agrees(
    loaded: Loaded, folder: Path, tmp_path: Path
) -> None:
    assert runtime.Predictor.load(probed(folder, tmp_path, loaded.logits(TEXTS))).classes == tiny.CLASSES


def test_a_model_that_computes_something_else_on_this_machine_is_refused(
    loaded: Loaded, folder: Path, tmp_path: Path
) -> None:
    broken = probed(folder, tmp_path, -loaded.logits(TEXTS))

    with pytest.raises(runtime.WrongMachine, match=r"on 0\.0% of its probe here.*run compress\.quantize on a machine"):
        models.open_model(broken)


def test_on_the_machine_that_made_it_nothing_is_measured_again(loaded: Loaded, folder: Path, tmp_path: Path) -> None:
    broken = probed(folder, tmp_path, -loaded.logits(TEXTS), flags=machine.describe()["flags"], cores=512)

    assert models.open_model(broken).classes == tiny.CLASSES


def test_it_answers_without_torch(folder: Path) -> None:
    (folder / "held.csv").write_text('text,label\n"good, fine",positive\n"bad\nbook",negative\n')
    (folder / "held.txt").write_text("good\t0\n")
    program = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "safetensors", "sklearn", "scipy", "onnx", "pyarrow"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from pathlib import Path
from jobs.text.models import open_model
from jobs.text.score import score
print(open_model(Path({str(folder)!r})).predict(["good"])[0]["label"])
print([score(Path({str(folder)!r}), Path({str(folder)!r}, name))["n"] for name in ("held.csv", "held.txt")])
Path({str(folder / "torch")!r}).mkdir()
Path({str(folder / "torch" / "manifest.json")!r}).write_text("{{}}")
try:
    open_model(Path({str(folder / "torch")!r}))
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)

    label, scored, refused = done.stdout.splitlines()
    assert label in tiny.CLASSES, done.stderr
    assert scored == "[2, 1]"
    assert refused.startswith("torch is a torch model and ")
    assert "use its ONNX form" in refused
