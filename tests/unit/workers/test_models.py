"""Resident models: loaded once, and never more of them than there is room for."""

import pytest

from workers.models import ResidentModels


def test_a_model_is_loaded_once() -> None:
    models, loads = ResidentModels(), []

    first = models.get("a", lambda: loads.append(1) or object())

    assert models.get("a", lambda: loads.append(2)) is first
    assert loads == [1]


def test_the_least_recently_used_goes_before_another_is_loaded() -> None:
    models, at_load = ResidentModels(capacity=2), []
    for key in ("a", "b", "a", "c"):
        models.get(key, lambda: at_load.append(len(models)))

    assert at_load == [0, 1, 1]
    loads: list[str] = []
    for key in ("a", "c", "b"):
        models.get(key, lambda key=key: loads.append(key))
    assert loads == ["b"]
    assert len(models) == 2


def test_a_model_that_fails_to_load_is_not_kept() -> None:
    models = ResidentModels()

    with pytest.raises(OSError, match="truncated"):
        models.get("a", lambda: (_ for _ in ()).throw(OSError("truncated")))
    assert models.get("a", lambda: 1) == 1
