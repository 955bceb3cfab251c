"""Comparing classifiers as a job, seeing it on the command line, and scoring one of them by its name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from broker.errors import GristmillError, JobError
from db import registry
from db.engine import session
from db.settings import settings
from db.store import ArtifactStore, Stored
from jobs.classify.tasks import compare, train_student, train_teacher
from jobs.compress.tasks import export
from jobs.text import footprint
from jobs.training import report
from tests import rows
from tests.integration.cli.conftest import Gristmill
from tests.integration.recommend.running import run
from tests.unit.text import tiny

QUICK = {"epochs": 2, "batch": 8, "rate": 1e-2, "acceleration": "off"}


def store() -> ArtifactStore:
    return ArtifactStore(settings().artifacts(), settings().home)


@pytest.fixture(scope="module")
def made(services: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A teacher, its ONNX form and a student that had no teacher: their data, and name -> artifact and lineage."""
    rows.wipe()  # models of other modules' tests may have these names
    folder = tmp_path_factory.mktemp("compare")
    data, encoder = tiny.write_folder(folder / "words"), tiny.write_encoder(folder / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "keep", lambda *_: None)
        run(train_teacher, data=str(data), encoder=str(encoder), **QUICK)
        run(train_student, data=str(data), kind="ngrams", size="small", **QUICK)
        run(export, model="teacher-words")
    with session() as opened:
        found = {
            name: registry.current(opened, name) for name in ("teacher-words", "student-words", "teacher-words-onnx")
        }
        models = {name: (row.artifact_digest, row.metrics, row.lineage) for name, row in found.items() if row}
    return {"data": data, "models": models}


@pytest.fixture
def given(clean_db: Path, made: dict[str, Any]) -> Path:
    """The three in a registry of their own; the data's folder."""
    with session() as opened:
        for name, (digest, metrics, lineage) in made["models"].items():
            manifest = json.loads((store().fetch(digest) / "manifest.json").read_text())
            registry.record(opened, Stored(digest, 1, manifest), "classify", None)
            registry.add(opened, name, digest, metrics, lineage, None, promote_over=None)
    data: Path = made["data"]
    return data


def test_all_models_of_a_data_set_are_measured_side_by_side(given: Path, gristmill: Gristmill) -> None:
    made = run(compare, data=str(given), timing_s=0.1, memory=False)

    models = {each["model"]: each for each in made["models"]}
    assert list(models)[-1] == "baseline"
    assert set(models) == {"teacher-words@1", "teacher-words-onnx@1", "student-words@1", "baseline"}
    teacher, onnx, student = (models[f"{name}@1"] for name in ("teacher-words", "teacher-words-onnx", "student-words"))
    assert (onnx["accuracy"], onnx["flops"]) == (teacher["accuracy"], teacher["flops"])
    assert onnx["lineage"] == "exported from teacher-words@1"
    for each in (teacher, onnx, student):
        assert each["low"] < each["accuracy"] < each["high"]
        assert 0 < each["p50_ms"] <= each["p99_ms"]
        assert each["disk_mb"] > 0
        assert each["sparsity"] == 0
    assert student["parameters"] > 500_000
    assert any(each["pareto"] for each in models.values())
    assert made["recommendation"][0].startswith("most accurate: ")
    assert made["left_out"] == {}

    folder = store().fetch(made["report"])
    assert imread(folder / "compare.png").shape[:2] == (780, 1320)
    page = (folder / "index.html").read_text()
    assert "teacher-words-onnx@1" in page
    assert 'src="data:image/png;base64,' in page
    assert "://" not in page.split("base64,")[0]

    job_id = gristmill("jobs", "--kind", "classify.compare", "--json").data[0]["id"]
    shown = gristmill("report", job_id)
    assert shown.code == 0
    assert "## Recommendation" in shown.out
    assert f"page: {folder / 'index.html'}" in shown.err


def test_models_are_named_and_the_data_is_what_they_learned_from(given: Path) -> None:
    made = run(compare, models=["student-words", "teacher-words-onnx@1"], on="test", timing_s=0.1, memory=False)

    assert {each["model"] for each in made["models"]} == {"student-words@1", "teacher-words-onnx@1", "baseline"}
    assert (made["data"], made["on"]) == ("words", "test")


def test_a_model_that_cannot_be_measured_is_left_out_and_said(given: Path, tmp_path: Path) -> None:
    data = tiny.write_folder(tmp_path / "words")
    (data / "class.txt").write_text("up\ndown")

    with pytest.raises(JobError, match=r"no model can be compared on words \(student-words@1: it knows other classes"):
        run(compare, data=str(data), models=["student-words"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"models": ["techer-words"]}, "model 'techer-words' is not in the registry"),
        ({"models": ["teacher-words@7"]}, "model 'teacher-words' has no version 7"),
        ({"data": "/nowhere"}, "data: there is nothing at '/nowhere'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(given: Path, params: dict[str, Any], message: str) -> None:
    with pytest.raises(GristmillError, match=message):
        run(compare, **params)


def test_other_data_says_of_which_there_are_models(given: Path, tmp_path: Path) -> None:
    data = tiny.write_folder(tmp_path / "others", train=20)

    with pytest.raises(JobError, match=r"no model in the registry was trained on others \(there are models of words\)"):
        run(compare, data=str(data))


def test_a_fresh_process_tells_what_a_model_takes(made: dict[str, Any]) -> None:
    found = footprint.memory(store().fetch(made["models"]["teacher-words-onnx"][0]))

    assert found is not None
    assert 20 < found["mb"] < 1000
    assert found["s"] > 0


def test_zeros_are_counted_in_both_forms(made: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(store().fetch(made["models"]["teacher-words"][0]), tmp_path / "model")
    path = folder / "encoder" / "model.safetensors"
    weights = load_file(path)
    pruned = {name: each * 0 if "query.weight" in name else each for name, each in weights.items()}
    save_file(pruned, path)

    queries = sum(each.numel() for name, each in weights.items() if "query.weight" in name)
    matrices = sum(each.numel() for name, each in weights.items() if each.ndim == 2 and "embeddings" not in name) + 64
    assert footprint.sparsity(folder) == pytest.approx(queries / matrices)
    assert footprint.sparsity(store().fetch(made["models"]["teacher-words-onnx"][0])) == 0


def test_a_model_is_scored_by_its_name_or_its_folder_without_a_worker(
    given: Path, made: dict[str, Any], gristmill: Gristmill
) -> None:
    digest, metrics, _ = made["models"]["teacher-words-onnx"]

    named = gristmill("score", "teacher-words-onnx", str(given / "test.txt"))
    folder = gristmill("score", str(store().fetch(digest)), str(given / "test.txt"))

    assert named.code == folder.code == 0
    assert len(named.out.splitlines()) == 1
    assert named.data["accuracy"] == metrics["test"]["accuracy"] == folder.data["accuracy"]
    assert (named.data["model"], named.data["version"], named.data["n"]) == ("teacher-words-onnx", 1, 32)
    assert {"accuracy", "macro_f1", "n", "model", "version"} <= named.data.keys()


@pytest.mark.parametrize(
    ("model", "file", "message"),
    [
        ("teacher-word", "test.txt", "model 'teacher-word' is not in the registry"),
        ("teacher-words@9", "test.txt", "model 'teacher-words' has no version 9"),
        ("teacher-words", "nothing.txt", "nothing.txt is not there: give a file of text<TAB>label lines"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    given: Path, gristmill: Gristmill, model: str, file: str, message: str
) -> None:
    done = gristmill("score", model, str(given / file))

    assert done.code == 2
    assert len(done.err.splitlines()) <= 2
    assert message in done.err
