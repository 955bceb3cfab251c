"""From a trained model to its compressed forms as jobs: registry, lineage, candidates, and bad input in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select

from broker.errors import InvalidParams, JobError
from db import registry
from db.artifact import Model
from db.engine import session
from db.settings import settings
from db.store import ArtifactStore
from jobs.compress.gate import Gate, Verdict
from jobs.compress.structured import Cut
from jobs.compress.tasks import export, lowrank, prune, quantize
from jobs.text import artifact, data, models, runtime
from jobs.text.artifact import load_model
from jobs.text.teacher import Teacher
from jobs.training import engine, report
from jobs.training.options import Acceleration
from jobs.training.task import Plan
from tests.integration.recommend.running import run
from tests.unit.text import tiny

QUICK = {"tolerance": 5, "agreement": 0.9, "timing_s": 0.1}


def store() -> ArtifactStore:
    return ArtifactStore(settings().artifacts(), settings().home)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_folder(tmp_path_factory.mktemp("compress") / "words", dev=64)


@pytest.fixture(scope="module")
def trained(services: Path, words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher's folder."""
    task, plan = Teacher(data.load(str(words)), tiny.encoder()), Plan(epochs=5, batch=8, rate=1e-2)
    fitted = engine.fit(task, plan, Acceleration(acceleration="off"), torch.device("cpu"))
    assert fitted.best["accuracy"] > 0.9
    folder = tmp_path_factory.mktemp("teacher")
    artifact.save_model(folder, task, fitted, plan, {"dev": fitted.best})
    return folder


@pytest.fixture
def teacher(clean_db: Path, trained: Path) -> Model:
    """The teacher, in the registry."""
    stored = store().put(trained)
    with session() as opened:
        registry.record(opened, stored, "classify", None)
        return registry.add(opened, "teacher-words", stored.digest, {}, {}, None, promote_over=None)


def versions() -> dict[str, Model]:
    with session() as opened:
        return {f"{each.name}@{each.version}": each for each in opened.scalars(select(Model))}


def test_a_teacher_becomes_int8_with_its_candidates_listed_and_its_lineage_kept(teacher: Model, trained: Path) -> None:
    made = run(quantize, model="teacher-words", **QUICK)

    registered = versions()["teacher-words-int8@1"]
    assert registered.is_current
    assert registered.lineage["quantized_from"] == {"name": "teacher-words", "version": 1}
    assert registered.lineage["artifact"] == teacher.artifact_digest
    assert registered.metrics["dev"]["texts"] == 64
    assert registered.metrics["compression"]["name"] == made["chosen"]
    assert {"torch", "onnx-fused", "int8", "int8-channel-7bit", "uint8"} <= {
        each["name"] for each in made["candidates"]
    }
    assert [each["name"] for each in made["candidates"] if each["chosen"]] == [made["chosen"]]

    model = models.open_model(store().fetch(registered.artifact_digest))
    assert isinstance(model, runtime.Predictor)
    assert model.manifest["quantized_from"]["artifact"] == teacher.artifact_digest
    texts = [text for text, _ in tiny.rows(50, seed=8)]
    agree = model.logits(texts).argmax(axis=1) == load_model(trained).logits(texts).argmax(axis=1)
    assert agree.mean() > 0.9


def test_an_export_gives_the_same_logits_without_torch_and_is_not_compressed_again(
    teacher: Model, trained: Path
) -> None:
    made = run(export, model="teacher-words@1", name="plain")

    model = models.open_model(store().fetch(versions()["plain@1"].artifact_digest))
    texts = [text for text, _ in tiny.rows(50, seed=8)]
    np.testing.assert_allclose(model.logits(texts), load_model(trained).logits(texts), atol=1e-4)
    assert made["fused"]
    assert made["difference"] < 1e-4
    assert versions()["plain@1"].lineage["exported_from"] == {"name": "teacher-words", "version": 1}

    with pytest.raises(JobError, match=r"plain@1 is an ONNX model already: give what it was made from \(teacher-words"):
        run(quantize, model="plain", **QUICK)


SHORT = {"acceleration": "off", "recovery_s": 0.5, "rate": 1e-3, "tolerance": 5}


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the report of the recovery, which takes longer than it does here."""
    monkeypatch.setattr(report, "keep", lambda *_: None)


@pytest.mark.usefixtures("unreported")
def test_a_pruned_teacher_recovers_loads_again_and_can_be_quantized(teacher: Model) -> None:
    made = run(prune, model="teacher-words", layers=0.34, heads=0.25, ffn=0.5, **SHORT)
    run(quantize, model="teacher-words-pruned", **QUICK)

    found = versions()
    pruned = found["teacher-words-pruned@1"]
    said = pruned.metrics["compression"]
    assert pruned.lineage["pruned_from"] == {"name": "teacher-words", "version": 1}
    assert (said["layers"], said["heads"], said["ffn"]) == (2, 3, 32)
    assert said["parameters_ratio"] < 0.7
    assert said["recovery_s"] > 0
    assert made["is_current"]
    assert made["metrics"]["dev"]["accuracy"] > 0.9
    loaded = load_model(store().fetch(pruned.artifact_digest))
    assert loaded.model.upper.config.intermediate_size == 32
    assert loaded.manifest["network"]["heads"] == 3
    assert loaded.manifest["role"] == "compressed"
    dev = [text for text, _ in tiny.rows(64, seed=2)]
    hits = loaded.logits(dev).argmax(axis=1) == np.arange(64) % 2
    assert hits.mean() == made["metrics"]["dev"]["accuracy"]
    assert found["teacher-words-pruned-int8@1"].lineage["quantized_from"]["name"] == "teacher-words-pruned"


@pytest.mark.usefixtures("unreported")
def test_what_loses_too_much_is_stored_out_of_use_and_every_cut_that_was_tried_is_said(
    teacher: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.compress.prune.CUTS", (Cut(layers=0.67), Cut(layers=0.34)))
    monkeypatch.setattr(Gate, "judge", lambda *_: Verdict(0.5, 40.0, 0.5, "accuracy falls by 40.00 points"))

    made = run(prune, model="teacher-words", **SHORT | {"recovery_s": 0})

    assert not made["is_current"]
    assert made["note"].startswith("not taken into use: accuracy falls by 40.00 points")
    assert [each["cut"] for each in made["cuts"]] == ["67% of the layers", "34% of the layers"]


@pytest.mark.usefixtures("unreported")
def test_single_weights_become_zero_gradually_and_the_speed_is_said_as_it_is(teacher: Model) -> None:
    made = run(prune, model="teacher-words", method="unstructured", share=0.5, pattern=".", gradual=True, **SHORT)

    assert made["compression"]["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert made["compression"]["parameters_ratio"] == 1
    assert 0.3 < made["compression"]["speedup_b1"] < 3
    loaded = load_model(store().fetch(made["artifact"]))
    assert loaded.manifest["pruned_from"]["name"] == "teacher-words"


def test_a_network_that_is_too_small_for_low_rank_is_refused(teacher: Model) -> None:
    with pytest.raises(JobError, match=r"ratio=0\.25: no layer of teacher-words is cheaper at that rank"):
        run(lowrank, model="teacher-words")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "unstructured", "layers": 0.5}, "layers, heads and ffn are of method=structured"),
        ({"gradual": True}, "gradual needs method=unstructured"),
        ({"heads": 1.0}, "heads"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_anything_is_recorded(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParams, match=message):
        prune.submit(model="teacher-words", **wrong)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "nothing"}, "model 'nothing' is not in the registry"),
        ({"model": "teacher-words@7"}, "model 'teacher-words' has no version 7: it has 1"),
        ({"model": "teacher-words@new"}, "'new' is no version: write name@number"),
        ({"agreement": 1, "tolerance": 0, "difference": 1e-12}, "logits differ by .* from torch's, more than 1e-12"),
    ],
)
def test_what_cannot_be_compressed_fails_for_good_in_one_line(
    teacher: Model, changed: dict[str, Any], message: str
) -> None:
    job = export if "difference" in changed else quantize
    changed.pop("agreement", None)

    with pytest.raises(JobError, match=message) as caught:
        run(job, **{"model": "teacher-words"} | changed)

    assert "\n" not in str(caught.value)
    assert list(versions()) == ["teacher-words@1"]


def test_data_of_other_classes_are_refused(teacher: Model, words: Path, tmp_path: Path) -> None:
    other = tiny.write_folder(tmp_path / "other")
    (other / "class.txt").write_text("up\ndown\n")

    with pytest.raises(JobError, match=r"other has other classes \(up, down\) than teacher-words \(positive"):
        run(quantize, model="teacher-words", data=str(other))
