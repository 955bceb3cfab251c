"""The version in use keeps its place against a worse one, in whatever form either is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jobs.text import champion, models
from jobs.text.data import Dataset, Split
from jobs.text.runtime import WrongMachine
from tests.unit.text import bag

DEV = Split(("good", "good good", "bad", "bad bad"), np.array([0, 0, 1, 0]))
DATA = Dataset("words", ("positive", "negative"), DEV, DEV, None)


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    """Knows what the words mean, and so 3 labels of 4."""
    return bag.tiny(tmp_path / "champion")


def objection(folder: Path, accuracy: float, data: Dataset = DATA, tolerance: float = 0.0) -> Any:
    ctx: Any = SimpleNamespace(device="cpu", store=SimpleNamespace(fetch=lambda digest: folder))
    over: Any = SimpleNamespace(version=7, artifact_digest="")
    return champion.objection(ctx, over, data, {"accuracy": accuracy}, tolerance)


def test_an_onnx_version_in_use_is_not_replaced_by_one_that_is_worse(onnx: Path) -> None:
    said, theirs = objection(onnx, 0.5)

    assert said == "version 7 in use is better on this dev (accuracy 0.7500)"
    assert theirs["accuracy"] == 0.75


@pytest.mark.parametrize(("accuracy", "tolerance"), [(0.75, 0), (1.0, 0), (0.745, 0.5)])
def test_one_that_is_no_worse_than_the_tolerance_replaces_it(onnx: Path, accuracy: float, tolerance: float) -> None:
    said, theirs = objection(onnx, accuracy, tolerance=tolerance)

    assert said is None
    assert theirs["texts"] == 4


def test_what_cannot_be_compared_keeps_its_place_and_what_serves_nobody_does_not(
    onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = Dataset("words", ("up", "down"), DEV, DEV, None)
    assert "knows other classes" in objection(onnx, 1.0, renamed)[0]

    def elsewhere(*_: Any) -> Any:
        raise WrongMachine("agrees on 61 % of its probe here")

    with monkeypatch.context() as changed:
        changed.setattr(models, "open_model", elsewhere)
        assert "cannot be compared on this machine" in objection(onnx, 1.0)[0]

    (onnx / "model.onnx").write_bytes(b"torn")
    assert objection(onnx, 0.0) == (None, None)
