"""Training learns, is repeatable, and goes on after a stop exactly as if there had been none."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from jobs.recommend import artifact, evaluate
from jobs.recommend.data import Catalogue, Dataset
from jobs.recommend.fit import QUICK, fit
from jobs.recommend.histories import leave_one_out
from jobs.recommend.model import ARCHITECTURES
from jobs.training import memory
from jobs.training.options import Acceleration
from tests.unit.recommend.synthetic import histories
from tests.unit.training.context import Ctx, Killed

SPLIT = leave_one_out(histories())
RECIPE = replace(QUICK, epochs=4, batch=16, seed=7)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_next_item_is_learned(architecture: str) -> None:
    recipe = replace(RECIPE, architecture=architecture, epochs=25, patience=25, dropout=0.0, rate=1e-2)

    fitted = fit(SPLIT, recipe)

    assert evaluate.on_test(evaluate.scorer(fitted.model), SPLIT)["hit@5"] > 0.8


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_killed_and_resumed_training_equals_an_undisturbed_one(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "batcher", lambda ctx, model, device: memory.Batcher(model, device))
    recipe, ctx = replace(RECIPE, architecture=architecture), Ctx(tmp_path)
    undisturbed = fit(SPLIT, recipe)
    measured = evaluate.on_validation

    def die_in_the_third(*given: Any) -> dict[str, float]:
        if ctx.saved == 3:  # at the start and after two epochs
            raise Killed
        return measured(*given)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "on_validation", die_in_the_third)
        with pytest.raises(Killed):
            fit(SPLIT, recipe, ctx=cast(Any, ctx))
    resumed = fit(SPLIT, recipe, ctx=cast(Any, ctx))

    assert resumed.record.resumed
    assert [entry["ndcg@10"] for entry in resumed.history] == [entry["ndcg@10"] for entry in undisturbed.history]
    assert same(resumed.model.state_dict(), undisturbed.model.state_dict())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parts_of_a_batch_add_up_to_it(architecture: str) -> None:
    recipe = replace(RECIPE, architecture=architecture, dropout=0.0)
    whole = fit(SPLIT, recipe)
    parts = fit(SPLIT, recipe, options=Acceleration(acceleration="off", tokens=60))

    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], tensor, atol=2e-3, rtol=0)  # of steps of 1e-2


def test_a_saved_model_loads_as_the_same_model(tmp_path: Path) -> None:
    fitted = fit(SPLIT, RECIPE)
    given = histories()
    catalogue = Catalogue({"i0": "First"}, {"i0": {"genres": ["x"]}, "other": {"genres": ["y"]}})

    manifest = artifact.save_model(tmp_path, fitted, RECIPE, Dataset("walks", given, catalogue), {"test": {"mrr": 0.5}})
    loaded = artifact.load_model(tmp_path)

    assert same(loaded.model.float().state_dict(), fitted.model.state_dict())
    assert loaded.items == given.items
    assert loaded.catalogue == Catalogue({"i0": "First"}, {"i0": {"genres": ["x"]}})
    assert loaded.manifest == manifest
    assert manifest["metrics"] == {"test": {"mrr": 0.5}}
    assert manifest["seed"] == 7


def test_a_folder_without_a_model_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no usable recommender .* train one again"):
        artifact.load_model(tmp_path)
