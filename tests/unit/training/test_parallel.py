"""Two processes on one machine train as one does at the same effective batch, and die together."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist

from jobs.training import memory
from jobs.training.engine import Fitted, fit
from jobs.training.options import Acceleration
from jobs.training.task import Plan
from tests.unit.training.context import Ctx, Killed
from tests.unit.training.tasks import Walking

PLAN = Plan(epochs=3, batch=16, rate=1e-2, seed=5)


def run(ctx: Any = None, plan: Plan = PLAN, walks: int = 97, **options: Any) -> Fitted:
    given = Acceleration(acceleration="off", **options)
    return fit(Walking(dropout=0.0, walks=walks), plan, given, torch.device("cpu"), ctx)


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "jobs.training.parallel" in " ".join(each.cmdline())]


@pytest.mark.parametrize("options", [{}, {"tokens": 40}], ids=str)
def test_two_processes_have_the_loss_curve_of_one(options: dict[str, Any]) -> None:
    plan = Plan(epochs=3, batch=16, rate=1e-2, seed=5)
    alone, threads = run(plan=plan, walks=96, **options), torch.get_num_threads()
    together = run(plan=plan, walks=96, processes=2, **options)

    assert [entry["loss"] for entry in together.history] == pytest.approx(
        [entry["loss"] for entry in alone.history], rel=1e-4
    )
    assert together.history[-1]["accuracy"] == pytest.approx(alone.history[-1]["accuracy"], abs=0.02)
    assert not children()
    assert not dist.is_initialized()
    assert "WORLD_SIZE" not in os.environ
    assert torch.get_num_threads() == threads


def test_a_last_batch_too_small_for_all_processes_is_left_out() -> None:
    fitted = run(processes=2)  # 97 walks: six batches, and one row

    assert fitted.record.steps == 3 * 6


def test_killed_and_resumed_they_end_as_undisturbed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "batcher", lambda ctx, model, device: memory.Batcher(model, device))
    undisturbed, ctx = run(processes=2), Ctx(tmp_path)
    validate, told = Walking.validate, []

    def die_in_the_second(self: Walking, model: Any) -> dict[str, float]:
        told.append(1)
        if len(told) == 2:
            raise Killed
        return validate(self, model)

    monkeypatch.setattr(Walking, "validate", die_in_the_second)
    with pytest.raises(Killed):
        run(ctx, processes=2)
    resumed = run(ctx, processes=2)

    assert resumed.record.resumed == [6]
    for name, tensor in undisturbed.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor)


def test_a_helper_that_dies_ends_the_attempt_and_leaves_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    validate = Walking.validate

    def kill_the_helper(self: Walking, model: Any) -> dict[str, float]:
        (helper,) = children()
        helper.kill()
        helper.wait()
        return validate(self, model)

    monkeypatch.setattr(Walking, "validate", kill_the_helper)
    began = time.monotonic()
    with pytest.raises(RuntimeError):
        run(processes=2)

    assert time.monotonic() - began < 60
    assert not children()
    assert not dist.is_initialized()
