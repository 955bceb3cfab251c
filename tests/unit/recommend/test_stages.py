"""Several trainings in one job: what is finished is not trained again."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from jobs.recommend.fit import PLAIN, QUICK, Recommending
from jobs.recommend.histories import leave_one_out
from jobs.recommend.stages import Stages
from jobs.training import engine, memory
from tests.unit.recommend.synthetic import histories
from tests.unit.training.context import Ctx, Killed

SPLIT = leave_one_out(histories())
RECIPE = replace(QUICK, epochs=1, batch=32)
CPU = torch.device("cpu")


def task(seed: int) -> Recommending:
    return Recommending(SPLIT, replace(RECIPE, seed=seed))


def test_an_attempt_after_the_first_training_goes_on_with_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "batcher", lambda ctx, model, device: memory.Batcher(model, device))
    ctx = cast(Any, Ctx(tmp_path))
    stages = Stages(PLAIN, CPU, ctx)
    first = stages.fit("first", task(1), RECIPE.plan)
    dying = task(2)
    monkeypatch.setattr(dying, "validate", lambda model: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        stages.fit("second", dying, RECIPE.plan)

    again = Stages(PLAIN, CPU, ctx)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "fit", lambda *given: pytest.fail("the first was trained again"))
        taken = again.fit("first", task(1), RECIPE.plan)
    second = again.fit("second", task(2), RECIPE.plan)

    assert taken.best == first.best
    assert all(torch.equal(tensor, first.model.state_dict()[name]) for name, tensor in taken.model.state_dict().items())
    undisturbed = engine.fit(task(2), RECIPE.plan, PLAIN, CPU)
    assert second.best == undisturbed.best
