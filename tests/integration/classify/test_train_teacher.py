"""Training a teacher as a job: registry, artifact, report, gate, resume, and bad input said in one line."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select
from transformers import AutoModel

from broker.errors import InvalidParams, JobError
from db.artifact import Model
from db.engine import session
from db.job import Job as Row
from db.settings import settings
from db.store import ArtifactStore
from jobs.classify.tasks import train_teacher
from jobs.text.artifact import load_model
from jobs.training import engine, factorised, report
from jobs.training.factorised import Schedule
from tests.integration.recommend.running import claim, once, run
from tests.unit.text import tiny

QUICK = {"epochs": 2, "batch": 8, "rate": 1e-2, "acceleration": "off"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job's parameters: tiny data, and a tiny encoder that was saved beside it."""
    folder = tmp_path_factory.mktemp("classify")
    data, encoder = tiny.write_folder(folder / "words"), tiny.write_encoder(folder / "tiny")
    return {"data": str(data), "encoder": str(encoder), **QUICK}


@pytest.fixture(scope="module")
def trained(services: Path, source: dict[str, Any]) -> dict[str, Any]:
    """What one training gave. Its artifacts stay in the store when the rows are gone."""
    made: dict[str, Any] = run(train_teacher, **source | {"epochs": 5})
    return made | {"registered": versions()}


@pytest.fixture
def given(clean_db: Path, source: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parameters, where reports are not looked at: one takes longer than a tiny training."""
    monkeypatch.setattr(report, "keep", lambda *_: None)
    return source


def versions() -> list[tuple[str, int, bool]]:
    with session() as opened:
        return [(m.name, m.version, m.is_current) for m in opened.scalars(select(Model).order_by(Model.id))]


def fetch(digest: str) -> Path:
    return ArtifactStore(settings().artifacts(), settings().home).fetch(digest)


def test_a_trained_teacher_is_registered_and_loads_again_as_it_was_measured(trained: dict[str, Any]) -> None:
    assert trained["registered"][-1] == ("teacher-words", trained["version"], True)  # other files made some before
    assert trained["metrics"]["dev"]["accuracy"] > 0.8
    assert trained["metrics"]["test"].keys() == {"accuracy", "macro_f1", "ece", "nll", "confusion", "texts"}
    loaded, test = load_model(fetch(trained["artifact"])), tiny.dataset().test
    assert test is not None
    right = (loaded.logits(test.texts).argmax(axis=1) == test.labels).mean()
    assert right == trained["metrics"]["test"]["accuracy"]
    assert (loaded.classes, loaded.manifest["data"]["train"]) == (tiny.CLASSES, 96)
    assert (fetch(trained["report"]) / "report.json").is_file()
    assert (fetch(trained["report"]) / "confusion.png").is_file()


def test_the_linear_baseline_stands_beside_a_teacher_that_does_not_beat_it(given: dict[str, Any]) -> None:
    made = run(train_teacher, **given | {"epochs": 1, "rate": 1e-9})

    assert made["metrics"]["baseline"]["dev"]["accuracy"] > 0.9
    assert made["warnings"][-1].startswith("the teacher does not beat the baseline (TF-IDF")
    with session() as opened:
        assert opened.scalars(select(Row.notes)).one()["warnings"] == made["warnings"]
        assert opened.scalars(select(Model.metrics)).one()["baseline"] == made["metrics"]["baseline"]


def test_a_loaded_teacher_answers_in_the_order_of_the_texts(trained: dict[str, Any]) -> None:
    loaded = load_model(fetch(trained["artifact"]))
    texts = ["good book", "the the the room room room room bad", "nice"]

    together = loaded.logits(texts)

    np.testing.assert_allclose(together, np.concatenate([loaded.logits([text]) for text in texts]), atol=1e-5)


def test_its_encoder_is_one_that_transformers_and_another_training_read(
    trained: dict[str, Any], given: dict[str, Any]
) -> None:
    folder = fetch(trained["artifact"]) / "encoder"

    model = AutoModel.from_pretrained(folder, local_files_only=True)
    again = run(train_teacher, **given | {"encoder": str(folder), "epochs": 1, "rate": 1e-3})

    assert model.config.num_hidden_layers == 3
    assert again["metrics"]["dev"]["accuracy"] >= trained["metrics"]["dev"]["accuracy"] - 0.1


@pytest.mark.parametrize("damaged", ["encoder/model.safetensors", "head.safetensors", "manifest.json"])
def test_a_damaged_artifact_is_refused_in_one_line(trained: dict[str, Any], tmp_path: Path, damaged: str) -> None:
    copied = shutil.copytree(fetch(trained["artifact"]), tmp_path / "copy")
    (copied / damaged).write_bytes(b"{")

    with pytest.raises(ValueError, match=r"copy holds no usable classifier .*: train one again") as caught:
        load_model(copied)

    assert "\n" not in str(caught.value)


def test_a_model_of_low_rank_layers_loads_again(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factorised, "Schedule", partial(Schedule, min_size=8))

    made = run(train_teacher, **given, low_rank="full", rank_ratio=0.25)

    loaded, test = load_model(fetch(made["artifact"])), tiny.dataset().test
    assert test is not None
    assert loaded.manifest["ranks"]
    assert (loaded.logits(test.texts).argmax(axis=1) == test.labels).mean() == made["metrics"]["test"]["accuracy"]


def test_a_better_model_comes_into_use_and_a_worse_one_does_not(given: dict[str, Any]) -> None:
    run(train_teacher, **given | {"epochs": 1, "rate": 1e-9})
    better = run(train_teacher, **given)
    worse = run(train_teacher, **given | {"epochs": 1, "rate": 1e-9})

    assert [current for *_, current in versions()] == [False, True, False]
    assert better["is_current"]
    assert "version 2 in use is better on this dev" in worse["note"]
    assert worse["metrics"]["in_use"]["accuracy"] == better["metrics"]["dev"]["accuracy"]


def test_a_model_of_other_classes_does_not_replace_the_one_in_use(given: dict[str, Any], tmp_path: Path) -> None:
    run(train_teacher, **given | {"epochs": 1, "name": "words"})
    other_data = tiny.write_folder(tmp_path / "other")
    (other_data / "class.txt").write_text("up\ndown\n")

    other = run(train_teacher, **given | {"epochs": 1, "name": "words", "data": str(other_data)})

    assert other["note"].startswith("not taken into use: version 1 in use knows other classes")


def test_a_model_that_was_compared_before_another_one_came_into_use_says_why_it_did_not(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(train_teacher, **given | {"epochs": 1})
    monkeypatch.setattr("jobs.classify.train.in_use", lambda *_: None)  # as it was when this one was compared

    late = run(train_teacher, **given | {"epochs": 1})

    assert not late["is_current"]
    assert late["note"].startswith("not taken into use: another version came into use while this one was made; ")


class Killed(BaseException):
    pass


def test_a_second_attempt_goes_on_from_the_checkpoint_and_ends_the_same(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"freeze": 1, "cache_frozen": True, "checkpoint_s": 0}
    undisturbed = run(train_teacher, **given, **options, name="one")
    steps = 0
    step = engine.Stepper.step

    def dying(self: Any, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 17:  # in the second epoch of twelve steps
            raise Killed
        return step(self, *args)

    monkeypatch.setattr(engine.Stepper, "step", dying)
    claimed = claim(train_teacher, **given, **options, name="two")
    with pytest.raises(Killed):
        once(claimed, train_teacher)
    once(claimed, train_teacher)

    assert 24 < steps < 36  # and one more for the one that died
    with session() as opened:
        result = opened.get_one(Row, claimed.id).result
    assert result["metrics"] == undisturbed["metrics"]


def test_what_is_to_be_said_of_the_data_is_in_the_result_and_in_the_jobs_row(
    given: dict[str, Any], tmp_path: Path
) -> None:
    data = tiny.write_folder(tmp_path / "words", train=8, dev=2)
    (data / "test.txt").unlink()

    made = run(train_teacher, **given | {"data": str(data), "epochs": 1, "max_length": 8})

    assert "test" not in made["metrics"]
    assert made["warnings"][0].startswith("there is no test split")
    assert "texts of train are longer than max_length=8 tokens: their ends are not read" in made["warnings"][1]
    with session() as opened:
        assert opened.scalars(select(Row.notes)).one()["warnings"] == made["warnings"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder": "no/such"}, "encoder 'no/such': no such folder here, and the hub did not give it"),
        ({"freeze": 3}, "freeze=3: BertModel has 3 layers, one must learn: give 2 at most"),
        ({"max_length": 65}, "max_length=65: .* reads at most 64 tokens"),
    ],
)
def test_what_cannot_be_trained_fails_for_good_in_one_line(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # a hub that is away, without waiting for it

    with pytest.raises(JobError, match=message) as caught:
        run(train_teacher, **given | changed)

    assert "\n" not in str(caught.value)
    assert versions() == []


def test_a_bad_line_is_named(given: dict[str, Any], tmp_path: Path) -> None:
    data = tiny.write_folder(tmp_path / "words")
    with (data / "train.txt").open("a") as file:
        file.write("good book\t2\n")

    with pytest.raises(JobError, match=r"train\.txt:97: label '2' is unknown \(class\.txt has 2 classes, 0-1\)"):
        run(train_teacher, **given | {"data": str(data)})


@pytest.mark.parametrize("wrong", [{"freeze": -1}, {"rate": 2}, {"layer_decay": 0}, {"micro_batch": 2, "tokens": 9}])
def test_bad_parameters_are_refused_and_nothing_is_recorded(clean_db: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams):
        train_teacher.submit(**wrong)

    with session() as opened:
        assert opened.scalar(select(func.count()).select_from(Row)) == 0
