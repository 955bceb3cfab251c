"""The teacher in the training engine: whatever is done to make it fast, it is the same training."""

from typing import Any

import pytest
import torch

from jobs.text.teacher import Teacher
from jobs.training import engine
from jobs.training.options import Acceleration
from jobs.training.task import Plan
from tests.unit.text import tiny


def fit(**options: Any) -> engine.Fitted:
    """Two epochs without dropout, whose random numbers the options do change."""
    teacher = Teacher(tiny.dataset(train=48, dev=16), tiny.encoder(dropout=0), freeze=1, dropout=0)
    asked = Acceleration(acceleration="off", **options)
    return engine.fit(teacher, Plan(epochs=2, batch=16, rate=3e-3), asked, torch.device("cpu"))


@pytest.mark.parametrize(
    "options",
    [
        {"cache_frozen": True},
        {"recompute": True},
        {"tokens": 64},
        {"micro_batch": 4, "loader": 1},
        {"cache_frozen": True, "recompute": True, "tokens": 64, "optimizer": "fused", "on_device": True},
    ],
)
def test_each_way_to_compute_it_gives_the_same_training(options: dict[str, Any]) -> None:
    plain, fast = fit(), fit(**options)

    for expected, got in zip(plain.history, fast.history, strict=True):
        assert got["loss"] == pytest.approx(expected["loss"], abs=1e-3)
        assert got["nll"] == pytest.approx(expected["nll"], abs=1e-3)
