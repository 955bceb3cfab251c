"""Distillation as jobs: the teacher's logits once, students beside their twins, the best into the registry."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from broker.errors import InvalidParams, JobError
from db import registry
from db.artifact import Artifact, Model
from db.engine import session
from db.job import Job as Row
from db.settings import settings
from db.store import ArtifactStore
from jobs.classify import label as labelling
from jobs.classify.tasks import distill, label, train_student
from jobs.text import artifact, encoder, lesson
from jobs.text.artifact import Loaded, load_model
from jobs.text.data import load
from jobs.text.teacher import Teacher
from jobs.training import report
from jobs.training.engine import Fitted
from jobs.training.record import Record
from jobs.training.task import Plan
from tests.integration.recommend.running import claim, once, run
from tests.unit.text import tiny

QUICK = {"epochs": 2, "batch": 16, "rate": 1e-2, "acceleration": "off"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tiny.write_folder(tmp_path_factory.mktemp("distill") / "words")
    unlabelled = [text for text, _ in tiny.rows(40, 9)]
    (folder / "unlabelled.txt").write_text("\n".join([*unlabelled, unlabelled[0], ""]))
    return str(folder)


@pytest.fixture(scope="module")
def teacher(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has learned nothing, which is as good to ask: training one is another test's matter."""
    task = Teacher(load(data), encoder.load("scratch", ["good book"]), max_length=32)
    folder = tmp_path_factory.mktemp("teacher") / "scratch"
    artifact.save_model(folder, task, Fitted(task.model, [], 0, Record(device="cpu")), Plan(), {})
    return folder


@pytest.fixture
def source(clean_db: Path, data: str, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A data set with a teacher in the registry; without reports, one of which takes longer than a tiny training."""
    monkeypatch.setattr(report, "keep", lambda *_: None)
    stored = ArtifactStore(settings().artifacts(), settings().home).put(teacher)
    with session() as opened:
        registry.record(opened, stored, artifact.KIND, None)
        registry.add(opened, "teacher-words", stored.digest, {}, {}, None, promote_over=None)
    return {"data": data}


def fetch(digest: str) -> Path:
    return ArtifactStore(settings().artifacts(), settings().home).fetch(digest)


def count(table: Any, **values: Any) -> int:
    with session() as opened:
        return opened.scalar(select(func.count()).select_from(table).filter_by(**values)) or 0


def test_students_are_made_beside_their_twins_and_the_best_is_registered(source: dict[str, Any]) -> None:
    made = run(distill, **source, kinds=["bilstm", "ngrams"], sizes=["small"], labels=["soft", "hard"], **QUICK)

    soft, hard, alone, *bags = made["students"]
    assert [row["labels"] for row in (soft, hard, alone)] == ["soft", "hard", "gold"]
    # as many texts of train again as the taught ones read beside them
    assert soft["examples"] == hard["examples"] == alone["examples"] == 2 * (96 + 40)
    assert soft["gain_points"] == pytest.approx(100 * (soft["dev"] - alone["dev"]), abs=0.01)
    assert 0 < soft["share"] < 1
    # what cannot be is in the table too, and does not stop the others
    assert bags[0]["error"].startswith("the student has 524,")
    assert bags[0]["error"].endswith(
        f"its teacher {made['teacher']['parameters']:,}: give the size small, or smaller numbers"
    )
    assert made["best"]["artifact"] == made["artifact"]
    with session() as opened:
        model = opened.scalars(select(Model).where(Model.name == "student-words")).one()
    assert (model.is_current, model.lineage["student_of"]["name"]) == (True, "teacher-words")
    loaded, dev = load_model(fetch(made["artifact"])), tiny.dataset().dev
    assert (loaded.logits(dev.texts).argmax(axis=1) == dev.labels).mean() == made["metrics"]["dev"]["accuracy"]
    assert loaded.manifest["network"]["kind"] == "bilstm"
    assert loaded.manifest["student_of"] == model.lineage["student_of"]


def test_a_student_of_the_teachers_first_layers_is_a_transformer_like_any_other(source: dict[str, Any]) -> None:
    shape = {"kinds": ["layers"], "sizes": ["small"], "numbers": {"layers": 1}}

    made = run(distill, **source, **shape, **QUICK | {"rate": 1e-3, "epochs": 1}, ensemble=False)

    loaded = load_model(fetch(made["artifact"]))
    assert (loaded.manifest["network"]["layers"], loaded.manifest["role"]) == (1, "student")
    assert (fetch(made["artifact"]) / "encoder" / "config.json").is_file()
    assert loaded.manifest["reading"]["max_length"] == 32  # as the teacher's
    assert made["ensemble"] is None
    assert made["metrics"]["distillation"]["share"] == made["best"]["share"] < 1


def test_the_teacher_is_asked_once_for_the_same_texts(source: dict[str, Any]) -> None:
    first = run(label, **source, copies=1)
    again, other = run(label, **source, copies=1), run(label, **source)

    assert (first["reused"], again["reused"], other["reused"]) == (False, True, False)
    assert again["logits"] == first["logits"]
    assert (first["rows"], other["rows"], first["unlabelled"]) == (2 * (96 + 40), 96 + 40, 40)
    assert count(Artifact, kind=lesson.KIND) == 2
    assert first["dev"].keys() == {"teacher", "n-grams", "ensemble"}  # a teacher that knows nothing needs help
    assert first["dev"]["ensemble"]["accuracy"] >= first["dev"]["teacher"]["accuracy"]


def test_a_teacher_that_was_interrupted_goes_on_with_the_texts_it_was_not_asked_about(
    source: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(label, **source, seed=1)
    monkeypatch.setattr(labelling, "_AT_ONCE", 50)
    monkeypatch.setattr(labelling, "_SAVED_S", 0.0)
    monkeypatch.setattr(labelling, "_before", lambda *_: None)
    asked: list[int] = []
    logits = Loaded.logits

    def dying(self: Loaded, texts: Any, *rest: Any) -> Any:
        asked.append(len(texts))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return logits(self, texts, *rest)

    monkeypatch.setattr(Loaded, "logits", dying)
    claimed = claim(label, **source, seed=1)
    with pytest.raises(KeyboardInterrupt):
        once(claimed, label)
    once(claimed, label)

    assert asked == [50, 50, 50, 36, 32]  # the second was asked again, and dev at the end
    with session() as opened:
        result = opened.get_one(Row, claimed.id).result
    again, before = (np.load(fetch(each["logits"]) / "logits.npy") for each in (result, whole))
    np.testing.assert_allclose(again, before, atol=1e-5)


def test_a_student_learns_from_stored_logits_and_only_of_the_texts_that_they_are_of(
    source: dict[str, Any], tmp_path: Path
) -> None:
    logits = run(label, **source)["logits"]
    bag = {"kind": "ngrams", "numbers": {"width": 4, "buckets": 64}, **QUICK}

    made = run(train_student, **source, logits=logits, **bag)
    alone = run(train_student, **source, **bag, name="alone")

    assert (made["teacher"]["name"], alone["teacher"]) == ("teacher-words", None)
    assert made["parameters"] == alone["parameters"] < 600
    other = tmp_path / "others.txt"
    other.write_text("another text\n")
    with pytest.raises(JobError, match=r"are of other texts \(136 rows, here are 97 texts\): make them anew with"):
        run(train_student, **source, logits=logits, unlabelled=str(other), **bag)


def test_what_cannot_be_distilled_fails_in_one_line(source: dict[str, Any], tmp_path: Path) -> None:
    other = tiny.write_folder(tmp_path / "other")
    (other / "class.txt").write_text("up\ndown\n")
    cases = [
        (distill, {"teacher": "nobody"}, r"'nobody' is not in the registry \(there (is|are) teacher-words\)"),
        (distill, {"teacher": "teacher-words@7"}, r"'teacher-words' has no version 7: it has 1"),
        (label, {"data": str(other), "teacher": "teacher-words"}, r"knows 2 classes \(positive, .* has \(up, down\)"),
        (train_student, {"numbers": {"depth": 3}}, "a student of kind 'ngrams' has no depth: it has buckets, dropout"),
        (train_student, {"logits": "0" * 64}, "logits '0000.*: give what classify.label gave"),
    ]
    for job, changed, message in cases:
        with pytest.raises(JobError, match=message) as caught:
            run(job, **source | changed)
        assert "\n" not in str(caught.value)
    with pytest.raises(InvalidParams, match="numbers belong to one kind and one size"):
        distill.submit(**source, numbers={"width": 4})
    assert count(Model) == 1
    assert count(Row, kind="classify.train_student", state="SUCCESS") == 0
