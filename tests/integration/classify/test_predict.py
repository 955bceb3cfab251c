"""classify.predict: in a worker that can import neither torch nor transformers, and without any queue."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker.errors import InvalidParams, JobError
from db import registry
from db.engine import session
from db.settings import settings
from db.store import ArtifactStore
from jobs.classify import load, serve
from jobs.classify.tasks import Predict, predict
from tests.processes import ROOT, Process
from tests.unit.text import bag
from workers.models import ResidentModels

BLOCKER = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "sklearn", "pyarrow", "scipy", "onnx", "safetensors",
                                      "accelerate", "matplotlib"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


@pytest.fixture(scope="module")
def lean(services: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`gristmill worker cpu --queue cpu.predict` where nothing is installed but what gristmill[infer] brings."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(BLOCKER)
    command = [sys.executable, "-m", "workers", "worker", "cpu", "--queue", "cpu.predict", "--processes", "1"]
    process = Process(command, services, PYTHONPATH=f"{folder}{os.pathsep}{ROOT}")
    process.wait_for("ready.")
    yield process
    process.stop()


@pytest.fixture
def store(clean_db: Path) -> ArtifactStore:
    serve.forget_known()
    return ArtifactStore(settings().artifacts(), settings().home)


@pytest.fixture
def mood(store: ArtifactStore, tmp_path: Path) -> str:
    return register(store, bag.tiny(tmp_path / "first"))


def register(store: ArtifactStore, folder: Path, *, in_use: int | None = None, kind: str = "classify") -> str:
    stored = store.put(folder)
    with session() as opened:
        registry.record(opened, stored, kind, None)
        registry.add(opened, "mood", stored.digest, {}, {}, None, promote_over=in_use)
    return "mood"


def body(store: ArtifactStore, *many: dict[str, Any]) -> list[Any]:
    """The plain function, without a queue."""
    ctx = SimpleNamespace(models=ResidentModels(), store=store, device="cpu")
    return predict.body(ctx, [Predict(model="mood", **each) for each in many])


def test_one_text_has_one_answer_and_several_have_a_list(mood: str, lean: Process) -> None:
    one = predict.submit(model=mood, text="a good day", top_k=2)
    several = predict.submit(model=f"{mood}@1", texts=["bad", "good"])

    answer = one.get(timeout=60)
    assert answer["label"] == "positive"
    assert [each["label"] for each in answer["top"]] == ["positive", "negative"]
    assert answer["probability"] == answer["top"][0]["probability"] > 0.7
    assert (answer["truncated"], answer["model_version"]) == (False, 1)
    assert [(each["label"], len(each["top"])) for each in several.get(timeout=60)] == [("negative", 1), ("positive", 1)]


def test_a_promotion_holds_without_a_restart_and_loses_no_request(
    mood: str, lean: Process, store: ArtifactStore, tmp_path: Path
) -> None:
    register(store, bag.tiny(tmp_path / "second", good="happy"), in_use=-1)
    before = [predict.submit(model=mood, text="good") for _ in range(20)]
    before[0].get(timeout=60)

    with session() as opened:
        assert registry.promote(opened, mood, 2)
    after = [predict.submit(model=mood, text="good") for _ in range(20)]

    assert {each.get(timeout=60)["label"] for each in before} <= {"positive", "happy"}
    assert {(each.get(timeout=60)["label"], each.get()["model_version"]) for each in after} == {("happy", 2)}


def test_a_text_of_a_megabyte_is_read_from_its_beginning_and_that_is_said(mood: str, lean: Process) -> None:
    answer = predict.submit(model=mood, text="bad 好" * 200_000).get(timeout=60)

    assert (answer["label"], answer["truncated"]) == ("negative", True)


def test_a_batch_is_answered_in_its_order_and_to_each_as_many_as_it_asked_for(mood: str, store: ArtifactStore) -> None:
    one, several, more = body(store, {"text": "good"}, {"texts": ["bad", "good"], "top_k": 2}, {"text": "bad"})

    assert (one["label"], len(one["top"]), more["label"]) == ("positive", 1, "negative")
    assert [(each["label"], len(each["top"])) for each in several] == [("negative", 2), ("positive", 2)]


def test_both_versions_stay_resident(mood: str, store: ArtifactStore, tmp_path: Path) -> None:
    models = ResidentModels()
    ctx = SimpleNamespace(models=models, store=store, device="cpu")
    predict.body(ctx, [Predict(model="mood", text="good")])
    register(store, bag.tiny(tmp_path / "second", good="happy"), in_use=1)

    (now,), (then,) = (predict.body(ctx, [Predict(model=name, text="good")]) for name in ("mood", "mood@1"))

    assert (now["label"], then["label"], len(models)) == ("happy", "positive", 2)


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({"model": "moood"}, "model 'moood' is not in the registry"),
        ({"model": "mood@7"}, "model 'mood' has no version 7: it has 1"),
        ({"model": "mood", "text": " "}, 'text=" ": the text is empty: leave it out'),
        ({"model": "mood", "texts": ["b"]}, "give text or texts, one of the two"),
        ({"model": "mood", "top_k": 0}, "top_k=0: input should be greater than or equal to 1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_recorded(mood: str, params: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        predict.submit(**{"text": "a", **params})

    assert line in str(refused.value)


def test_what_is_no_classifier_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    register(store, bag.tiny(tmp_path / "other"), kind="recommend")

    with pytest.raises(InvalidParams, match="model 'mood' is of kind 'recommend', no classifier"):
        predict.submit(model="mood", text="good")


def test_a_model_whose_files_are_gone_fails_each_job_for_good(mood: str, store: ArtifactStore) -> None:
    store.delete(serve.named(mood).artifact_digest)

    found = body(store, {"text": "good"}, {"text": "bad"})

    assert all(isinstance(each, JobError) and "is not in the store" in str(each) for each in found)


def test_a_model_that_was_quantized_for_another_machine_gives_way_to_its_origin(
    mood: str, store: ArtifactStore, tmp_path: Path
) -> None:
    folder = bag.tiny(tmp_path / "quantized", good="bad", bad="good")
    made_on, origin = {"architecture": "PDP-11", "flags": []}, {"artifact": serve.named(mood).artifact_digest}
    facts = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(facts | {"machine": made_on, "quantized_from": origin}))
    probe = {"texts": ["good", "bad"], "logits": [[0, 1], [1, 0]], "agreement": 1.0}
    (folder / "probe.json").write_text(json.dumps(probe))
    register(store, folder, in_use=1)

    (answer,) = body(store, {"text": "good"})

    assert (answer["label"], answer["model_version"]) == ("positive", 2)
    store.delete(origin["artifact"])
    (error,) = body(store, {"text": "good"})
    assert "of its probe here" in str(error)
    assert "what it was made from cannot be used instead" in str(error)


def test_without_the_queue_a_folder_or_a_name_is_loaded(mood: str, tmp_path: Path) -> None:
    for model in (tmp_path / "first", str(tmp_path / "first"), "mood", "mood@1"):
        assert load(model).predict(["good", "bad"], top_k=1)[1]["label"] == "negative"
    with pytest.raises(JobError, match="model 'nothing' is not in the registry"):
        load("nothing")
    with pytest.raises(ValueError, match="holds no classifier"):
        load(tmp_path)
