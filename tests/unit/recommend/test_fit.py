"""Training learns, is repeatable, and goes on after a stop exactly as if there had been none."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jobs.recommend import artifact, checkpoint, evaluate
from jobs.recommend.data import Catalogue, Dataset
from jobs.recommend.fit import QUICK, State, fit
from jobs.recommend.histories import leave_one_out
from jobs.recommend.model import ARCHITECTURES
from tests.unit.recommend.synthetic import histories

SPLIT = leave_one_out(histories())
RECIPE = replace(QUICK, epochs=4, batch=16, seed=7)


class Stop(Exception):
    pass


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_next_item_is_learned(architecture: str) -> None:
    recipe = replace(RECIPE, architecture=architecture, epochs=25, patience=25, dropout=0.0, rate=1e-2)

    fitted = fit(SPLIT, recipe)

    assert evaluate.on_test(evaluate.network(fitted.model), SPLIT)["hit@5"] > 0.8


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_stopped_and_resumed_training_equals_an_undisturbed_one(architecture: str, tmp_path: Path) -> None:
    recipe = replace(RECIPE, architecture=architecture)
    undisturbed = fit(SPLIT, recipe)

    def stop_after_two(state: State) -> None:
        checkpoint.save(tmp_path, state, recipe, "data")
        if state.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        fit(SPLIT, recipe, on_epoch=stop_after_two)
    torch.rand(3)  # another process would have drawn other numbers in between
    resumed = fit(SPLIT, recipe, resume=checkpoint.load(tmp_path, recipe, "data"))

    assert resumed.history == undisturbed.history
    assert same(resumed.model.state_dict(), undisturbed.model.state_dict())


def test_a_checkpoint_of_another_recipe_or_other_data_is_not_continued(tmp_path: Path) -> None:
    fit(SPLIT, RECIPE, on_epoch=lambda state: checkpoint.save(tmp_path, state, RECIPE, "data"))

    assert checkpoint.load(tmp_path, replace(RECIPE, seed=8), "data") is None
    assert checkpoint.load(tmp_path, RECIPE, "other data") is None


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best() -> None:
    recipe = replace(RECIPE, epochs=50, patience=2, rate=0.0)  # nothing is learned, so the first epoch is the best

    fitted = fit(SPLIT, recipe)

    assert (len(fitted.history), fitted.best_epoch) == (3, 1)


def test_steps_are_told_up_to_the_whole_epoch() -> None:
    told: list[tuple[int, int, int]] = []

    fit(SPLIT, RECIPE, on_step=lambda *numbers: told.append(numbers))

    assert {epoch for epoch, _, _ in told} == {1, 2, 3, 4}
    assert all(1 <= step <= total for _, step, total in told)


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
