"""The engine learns, repeats itself and goes on as if nothing had been; its options change the time, not the result."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from broker.errors import JobError
from jobs.training import factorised, memory, profiler, stepper
from jobs.training.engine import Fitted, fit
from jobs.training.options import Acceleration
from jobs.training.task import Plan
from tests.unit.training.context import Ctx, Killed
from tests.unit.training.tasks import Walking

CPU = torch.device("cpu")
PLAN = Plan(epochs=4, batch=16, rate=1e-2, seed=5)
OFF = Acceleration(acceleration="off")
DIM = 2 * factorised.MIN_SIZE


@pytest.fixture(autouse=True)
def _no_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that fitted are remembered in Postgres, which unit tests do without."""
    monkeypatch.setattr(memory, "batcher", lambda ctx, model, device: memory.Batcher(model, device))


def run(options: Acceleration = OFF, plan: Plan = PLAN, ctx: Any = None, **task: Any) -> Fitted:
    return fit(Walking(**task), plan, options, CPU, ctx)


@cache
def undisturbed(**task: Any) -> Fitted:
    """The plain training that others are compared with, made once."""
    return run(**task)


def weights(fitted: Fitted) -> dict[str, torch.Tensor]:
    return fitted.model.state_dict()


def close(left: Fitted, right: Fitted, tolerance: float = 1e-5) -> bool:
    return all(torch.allclose(each, weights(right)[name], atol=tolerance) for name, each in weights(left).items())


def same(left: Fitted, right: Fitted) -> bool:
    return close(left, right, 0.0)


def metrics(fitted: Fitted) -> list[dict[str, float]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in fitted.history]


def test_it_learns() -> None:
    fitted = run(plan=replace(PLAN, epochs=15))

    assert fitted.best["accuracy"] > 0.7
    assert fitted.history[0]["accuracy"] < fitted.best["accuracy"]
    assert not fitted.model.training


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    assert same(run(), undisturbed())
    assert not close(undisturbed(), run(plan=replace(PLAN, seed=6)), 1e-3)


def test_it_stops_when_validation_gets_no_better_and_keeps_the_best() -> None:
    fitted = run(plan=replace(PLAN, epochs=50, patience=2, rate=0.0))  # nothing is learned: the first epoch is the best

    assert (len(fitted.history), fitted.best_epoch) == (3, 1)


class Told(Walking):
    """Its validation says what it was told to, epoch by epoch: accuracy, and nll."""

    ceiling = 1.0
    tie = "nll"

    def __init__(self, *said: tuple[float, float]) -> None:
        super().__init__()
        self._said = iter(said)

    def validate(self, model: torch.nn.Module) -> dict[str, float]:
        accuracy, nll = next(self._said)
        return {"accuracy": accuracy, "nll": nll}


def told(plan: Plan, *said: tuple[float, float], ctx: Any = None, options: Acceleration = OFF) -> Fitted:
    return fit(Told(*said), plan, options, CPU, ctx)


def test_of_epochs_with_the_same_metric_the_one_that_wins_the_tie_is_kept() -> None:
    fitted = told(PLAN, (0.5, 0.1), (1.0, 0.13), (1.0, 0.002), (1.0, 0.002))

    assert fitted.best_epoch == 3
    assert fitted.best == {"accuracy": 1.0, "nll": 0.002}


def test_a_validation_that_stays_perfect_ends_the_training_and_one_that_does_not_makes_all_epochs() -> None:
    plan = replace(PLAN, epochs=7, perfect=3)
    ever = [(1.0, 1 / epoch) for epoch in range(1, 8)]

    assert len(told(plan, (0.9, 1.0), *ever[:3]).history) == 4
    assert len(told(plan, *ever[:2], (0.99, 0.1), *ever[:2], (0.99, 0.1), (1.0, 0.1)).history) == 7
    assert len(told(replace(plan, perfect=None), *ever).history) == 7
    assert len(told(plan, *ever, options=Acceleration(acceleration="off", low_rank="dynamic")).history) == 7


def test_a_training_that_ended_at_a_perfect_validation_does_not_go_on_when_it_is_resumed(tmp_path: Path) -> None:
    plan, ctx = replace(PLAN, perfect=2), Ctx(tmp_path)
    whole = told(plan, (1.0, 0.2), (1.0, 0.1), ctx=ctx)

    resumed = told(plan, ctx=ctx)  # it would ask for what nobody said

    assert (len(resumed.history), resumed.best_epoch) == (2, 2)
    assert same(resumed, whole)


@pytest.mark.parametrize(
    "changed",
    [{"micro_batch": 5}, {"tokens": 64}, {"recompute": True}, {"loader": 2}, {"on_device": True}],
    ids=str,
)
def test_options_that_leave_the_mathematics_alone_give_the_same_weights(changed: dict[str, Any]) -> None:
    assert close(run(Acceleration(acceleration="off", **changed), dropout=0.0), undisturbed(dropout=0.0))


def test_cached_features_of_frozen_layers_give_the_same_weights_but_for_their_rounding() -> None:
    plain = run(dropout=0.0, frozen=True)
    cached = run(Acceleration(acceleration="off", cache_frozen=True), dropout=0.0, frozen=True)

    assert close(cached, plain, 5e-3)
    assert "features" in cached.record.spent


@pytest.mark.parametrize("changed", [{"optimizer": "fused"}, {"buckets": True}, {"precision": "bf16"}], ids=str)
def test_the_other_options_learn_as_well(changed: dict[str, Any]) -> None:
    plan = replace(PLAN, epochs=15)

    assert run(Acceleration(acceleration="off", **changed), plan).best["accuracy"] > 0.7


def test_auto_says_what_it_chose_and_leaves_the_start_of_the_training_as_it_was() -> None:
    given = Acceleration(tokens=4096, micro_batch=None, loader=0, compile="off", precision="fp32", optimizer="adamw")
    chosen = run(given, dropout=0.0)

    assert {choice.option for choice in chosen.record.choices} >= {"on_device", "recompute"}
    assert not {choice.option for choice in chosen.record.choices} & given.given().keys()
    assert all(choice.why for choice in chosen.record.choices)
    assert chosen.record.options["tokens"] == 4096
    assert close(chosen, undisturbed(dropout=0.0))


def test_the_best_epoch_is_one_of_the_last_low_rank_form() -> None:
    fitted = run(Acceleration(acceleration="off", low_rank="dynamic"), replace(PLAN, epochs=9), dim=DIM)

    assert set(factorised.ranks(fitted.model).values()) == {DIM // 4}
    assert fitted.best_epoch > 6
    assert fitted.best["accuracy"] > 0.7


@pytest.mark.parametrize(
    ("step", "changed"),
    [(step, {}) for step in (1, 6, 7, 23)]
    + [(step, {"low_rank": "dynamic", "stabiliser": "balanced"}) for step in (3, 15)],
    ids=str,
)
def test_a_training_that_is_killed_at_any_step_ends_as_an_undisturbed_one(
    step: int, changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, task = Acceleration(acceleration="off", checkpoint_s=0, **changed), {"dim": DIM if changed else 16}
    whole = undisturbed(options=options, **task)
    monkeypatch.setattr("jobs.training.engine._CHECKPOINTS_SHARE", 1e9)  # after every step
    ctx = Ctx(tmp_path)
    made: list[int] = []
    real = stepper.Stepper.step

    def step_or_die(self: Any, examples: Any, ready: Any, number: int, share: float) -> Any:
        if number == step and step not in made:
            made.append(number)
            raise Killed
        made.append(number)
        return real(self, examples, ready, number, share)

    monkeypatch.setattr(stepper.Stepper, "step", step_or_die)
    with pytest.raises(Killed):
        run(options, ctx=ctx, **task)
    torch.rand(3)  # another process would have drawn other numbers in between
    resumed = run(options, ctx=ctx, **task)

    assert made == sorted([*range(1, 25), step])  # none is made twice but the one that was cut off
    assert same(resumed, whole)
    assert metrics(resumed) == metrics(whole)
    assert resumed.record.steps == whole.record.steps == 24
    assert resumed.record.examples == whole.record.examples


def test_a_checkpoint_of_another_training_is_not_continued(tmp_path: Path) -> None:
    ctx = Ctx(tmp_path)
    run(ctx=ctx)

    assert run(plan=replace(PLAN, seed=8), ctx=ctx).record.resumed == []
    assert len(run(plan=replace(PLAN, seed=8), ctx=ctx).history) == PLAN.epochs


def test_progress_goes_up_to_the_whole_and_the_record_counts_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "_LEAST_S", 0.0)
    ctx = Ctx(tmp_path)
    record = run(ctx=ctx).record

    assert ctx.told == sorted(ctx.told)
    assert ctx.told[-1] == (PLAN.epochs * 100, PLAN.epochs * 100)
    assert (record.steps, record.examples, record.targets) == (24, 4 * 96, 4 * 96)
    assert 0 < record.padding < record.tokens
    assert {"step", "validate", "data", "checkpoint", "profile"} <= record.spent.keys()
    assert record.profile
    assert record.points[-1].step == 24


def test_a_report_says_that_no_layer_could_have_low_rank() -> None:
    record = run(Acceleration(acceleration="off", low_rank="progressive"), dim=DIM).record

    assert record.events == ["low_rank=progressive: no layer was changed: they are too small or their spectra too flat"]


def test_weights_that_are_not_finite_end_the_training_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Walking.loss
    monkeypatch.setattr(Walking, "loss", lambda *given: real(*given) * torch.inf)

    with pytest.raises(JobError, match=r"walking diverged: .* by step 6: use a lower rate than 0.01, a smaller clip"):
        run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp16"}, "precision=fp16 needs a CUDA device and this is cpu: use fp32 or bf16"),
        ({"optimizer": "8bit"}, "optimizer=8bit needs bitsandbytes"),
        ({"cache_frozen": True}, "walking has no frozen layers: leave cache_frozen out"),
    ],
)
@pytest.mark.parametrize("acceleration", ["off", "auto"])
def test_an_option_that_cannot_be_had_here_is_named_with_the_remedy(
    acceleration: Any, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepper.Stepper, "step", lambda *_: pytest.fail("a step was made"))

    with pytest.raises(JobError, match=message):
        run(Acceleration(acceleration=acceleration, **options))
