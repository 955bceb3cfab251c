"""Importing and training: rows, artifact, registry, gate, resume, and bad input said in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from broker.errors import InvalidParams, JobError
from db import read
from db.artifact import Artifact, Model
from db.engine import session
from db.job import Job as Row
from db.recommend import CatalogueItem, UserProfile
from db.settings import settings
from db.store import ArtifactStore
from jobs.recommend import evaluate, tasks
from jobs.recommend.artifact import load_model
from jobs.recommend.tasks import adapt, import_data, pretrain_all, pretrain_user, refresh, train
from tests.integration.recommend.conftest import ITEMS, USERS
from tests.integration.recommend.running import claim, once, run


def count(table: type[Any]) -> int:
    with session() as opened:
        return opened.scalar(select(func.count()).select_from(table)) or 0


def store() -> ArtifactStore:
    return ArtifactStore(settings().artifacts(), settings().home)


def versions() -> list[tuple[int, bool]]:
    with session() as opened:
        return [(m.version, m.is_current) for m in opened.scalars(select(Model).order_by(Model.version))]


def test_an_import_fills_catalogue_and_profiles(imported: dict[str, Any], events: Path) -> None:
    assert (imported["users"], imported["changed_users"]) == (USERS, USERS)
    assert (count(UserProfile), count(CatalogueItem)) == (USERS, ITEMS)
    with session() as opened:
        item = opened.get_one(CatalogueItem, "i4")
        assert (item.title, item.features) == ("Title 4", {"genres": ["g1", "h0"], "year": 1994})
        profile = opened.get_one(UserProfile, "u0")
        assert profile.item_count == len(profile.item_ids) >= 5


def test_a_second_import_of_the_same_file_changes_nothing(
    imported: dict[str, Any], events: Path, catalogue: Path
) -> None:
    again = run(import_data, data=str(events), catalogue=str(catalogue))

    assert (again["changed_users"], again["changed_items"]) == (0, 0)


def test_training_leaves_an_artifact_and_a_current_version(trained: dict[str, Any]) -> None:
    assert (trained["version"], trained["is_current"]) == (1, True)
    assert {"validation", "test", "popularity"} <= trained["metrics"].keys()
    assert {"hit@5", "hit@10", "ndcg@5", "ndcg@10", "mrr", "ndcg@10 u100"} <= trained["metrics"]["test"].keys()
    assert count(Artifact) == 2  # the model and the report of its training
    loaded = load_model(store().fetch(trained["artifact"]))
    assert loaded.manifest["data"]["users"] == USERS
    assert loaded.catalogue.titles["i4"] == "Title 4"


def test_a_better_model_comes_into_use_and_a_worse_one_does_not(trained: dict[str, Any]) -> None:
    better = run(train, data="database", preset="quick", epochs=30, patience=30, rate=0.01, dropout=0)
    worse = run(train, data="database", preset="quick", epochs=1, rate=1e-6)

    assert better["is_current"]
    assert better["metrics"]["in_use"]["ndcg@10"] == pytest.approx(trained["metrics"]["validation"]["ndcg@10"])
    assert not worse["is_current"]
    assert versions() == [(1, False), (2, True), (3, False)]


def test_a_model_of_other_data_does_not_replace_the_one_in_use_by_itself(
    trained: dict[str, Any], tmp_path: Path
) -> None:
    rows = [f"v{user},j{(user + step) % 20},{step}" for user in range(20) for step in range(6)]
    (tmp_path / "other.csv").write_text("\n".join(["user,item,timestamp", *rows]))

    other = run(train, data=str(tmp_path / "other.csv"), preset="quick")

    assert other["note"].startswith("not taken into use: version 1 in use knows 0% of these items")
    assert other["note"].endswith("`gristmill models promote recommend 2` does so all the same")
    assert versions() == [(1, True), (2, False)]
    with session() as opened:
        assert [row.lineage["note"] for row in read.models(opened)] == [other["note"], None]  # newest first


@pytest.mark.parametrize("model", ["bert4rec", "blend"])
def test_other_models_train_and_recommend(imported: dict[str, Any], events: Path, model: str) -> None:
    trained = run(train, data=str(events), model=model, preset="quick")

    loaded = load_model(store().fetch(trained["artifact"]))
    assert ("blend" in loaded.manifest) == (model == "blend")
    assert run(pretrain_user, username="u0", top_k=5)["recommendations"] == 5


def test_adapting_to_each_user_is_measured_and_changes_nothing(trained: dict[str, Any]) -> None:
    found = run(adapt, data="database", steps=2)

    assert (found["version"], found["users"]) == (1, USERS)
    assert found["test"]["plain"] == pytest.approx(trained["metrics"]["test"]["ndcg@10"], abs=1e-4)
    assert 0 <= found["test"]["kept"] <= 1
    assert versions() == [(1, True)]


class Killed(BaseException):
    pass


def test_a_second_attempt_goes_on_from_the_checkpoint_and_ends_the_same(
    imported: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"data": "database", "preset": "quick", "epochs": 4, "acceleration": "off"}
    undisturbed = run(train, **options, batch=16)
    measured, epochs = evaluate.on_validation, []

    def die_in_the_third(*given: Any) -> dict[str, float]:
        epochs.append(len(epochs) + 1)
        if len(epochs) == 3:
            raise Killed
        return measured(*given)

    claimed = claim(train, **options, batch=16, seed=42)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "on_validation", die_in_the_third)
        with pytest.raises(Killed):
            once(claimed, train)
    once(claimed, train)

    with session() as opened:
        result = opened.get_one(Row, claimed.id).result
    report = json.loads((store().fetch(result["report"]) / "report.json").read_text())
    assert len(report["resumed"]) == 1
    assert result["metrics"]["validation"] == undisturbed["metrics"]["validation"]


def test_an_attempt_after_the_registration_registers_nothing_again(imported: dict[str, Any]) -> None:
    claimed = claim(train, data="database", preset="quick")
    from workers.context import RunContext

    first = train.body(RunContext(claimed), train.params_model.model_validate(claimed.params))
    once(claimed, train)

    assert versions() == [(first["version"], True)]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"time": "item", "item": "timestamp"},
            "events.csv: column 'item' holds 'i[0-9]+' in row 1, which is no time",
        ),
        ({"data": "database"}, "the database holds no histories"),
    ],
)
def test_bad_data_fails_for_good_in_one_line(
    clean_db: Path, events: Path, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(JobError, match=message) as caught:
        run(train, **{"data": str(events), "preset": "quick"} | params)

    assert "\n" not in str(caught.value)
    assert count(Model) == 0


@pytest.mark.parametrize(
    ("job", "params", "message"),
    [
        (train, {"model": "gru"}, "'sasrec', 'bert4rec' or 'blend'"),
        (train, {"epochs": -1}, "epochs"),
        (pretrain_all, {"top_k": -5}, "top_k=-5"),
        (pretrain_user, {"username": "u0", "top_k": 0}, "top_k=0"),
        (pretrain_user, {"username": "nobody"}, "unknown user 'nobody': import a history"),
        (pretrain_user, {"username": "new", "item_ids": []}, "item_ids"),
        (train, {"data": "/nowhere.csv"}, "data: there is nothing at '/nowhere.csv': give the absolute path"),
        (
            tasks.evaluate,
            {"data": "database", "split": "/no.csv"},
            "split: there is nothing at '/no.csv': give a split.csv",
        ),
        (import_data, {"catalogue": "/no.csv", "data": "sql:x", "table": "y"}, "catalogue: there is nothing at '/no.c"),
        (tasks.import_anilist, {"usernames": ["ann"], "mapping": "/no.csv"}, "mapping: there is nothing at '/no.csv'"),
        (import_data, {"data": "database"}, "data is 'database', which is where imports go"),
        (train, {"data": "database", "min_rating": 3}, "min_rating=3.0 has no effect on data='database'"),
        (train, {"user": "item", "data": "e.csv"}, "user, item, time and rating are item, item, timestamp: name a col"),
        (import_data, {"data": "e.csv", "min_rating": 3}, "min_rating=3 needs a rating column: name it"),
        (refresh, {"training": {"epochs": 3, "preset": "quick"}}, "training has preset='quick': give it beside train"),
        (refresh, {"training": {"promote": False}}, "training has promote=False: the loop puts the new model"),
    ],
)
def test_bad_parameters_are_refused_and_nothing_is_recorded(
    clean_db: Path, job: Any, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParams, match=message):
        job.submit(**params)

    assert count(Row) == 0
