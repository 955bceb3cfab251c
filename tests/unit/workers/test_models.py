"""Resident models: loaded once, and never more of them than there is room for."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.exc import OperationalError

from broker.errors import JobError
from workers import models
from workers.models import Limits, ModelsOfJob, ResidentModels


class Model:
    """One that can be moved; its pool's events are written down beside its own."""

    def __init__(self, name: str, log: list[str], *, movable: bool = True) -> None:
        self._name, self._log, self._movable = name, log, movable

    def offload(self) -> bool:
        self._log.append(f"{self._name} offloads" if self._movable else f"{self._name} stays")
        return self._movable

    def restore(self) -> None:
        self._log.append(f"{self._name} restores")

    def unload(self) -> None:
        self._log.append(f"{self._name} unloads")


class Pool:
    """A pool of models of so many bytes, and what happened in it."""

    def __init__(self, device: int, host: int = 0) -> None:
        self.log: list[str] = []
        self._models = ResidentModels(limits=lambda: Limits(device, host))

    def get(self, name: str, size: int, **how: Any) -> Model:
        return self._models.get(name, lambda: Model(name, self.log, **how), size, self._record)

    def _record(self, model: str, event: str, seconds: float, size: int) -> None:
        self.log.append(f"{event} {model} {size}")


def test_a_model_is_loaded_once() -> None:
    pool, loads = ResidentModels(), []

    first = pool.get("a", lambda: loads.append(1) or object())

    assert pool.get("a", lambda: loads.append(2)) is first
    assert loads == [1]


def test_the_least_recently_used_goes_before_another_is_loaded() -> None:
    pool, at_load = ResidentModels(capacity=2), []
    for key in ("a", "b", "a", "c"):
        pool.get(key, lambda: at_load.append(len(pool)))

    assert at_load == [0, 1, 1]
    loads: list[str] = []
    for key in ("a", "c", "b"):
        pool.get(key, lambda key=key: loads.append(key))
    assert loads == ["b"]
    assert len(pool) == 2


def test_a_model_that_fails_to_load_is_not_kept() -> None:
    pool = ResidentModels()

    with pytest.raises(OSError, match="truncated"):
        pool.get("a", lambda: (_ for _ in ()).throw(OSError("truncated")))
    assert pool.get("a", lambda: 1) == 1


def test_a_model_that_runs_out_of_memory_beside_others_is_loaded_again_without_them() -> None:
    pool, tries = ResidentModels(), []

    def load() -> str:
        tries.append(len(pool))
        if len(pool):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return "large"

    pool.get("a", object)
    pool.get("b", object)
    assert pool.get("large", load) == "large"
    assert tries == [2, 0]


def test_models_that_fit_together_stay_and_only_as_many_go_as_must() -> None:
    pool = Pool(device=100)
    for name, size in [("a", 40), ("b", 40), ("free", 0), ("c", 20), ("d", 50)]:
        pool.get(name, size)

    # What declares nothing makes no room.
    assert pool.log == [
        "load a 40", "load b 40", "load free 0", "load c 20",
        "a unloads", "drop a 40", "b unloads", "drop b 40", "load d 50",
    ]  # fmt: skip


def test_a_model_moves_to_the_host_as_long_as_that_has_room_and_comes_back() -> None:
    pool = Pool(device=100, host=70)
    first = pool.get("a", 60)
    for name in ("b", "a", "b"):
        pool.get(name, 60)

    assert pool.get("a", 60) is first
    assert pool.log[:7] == [
        "load a 60", "a offloads", "offload a 60", "load b 60", "b unloads", "drop b 60", "a restores",
    ]  # fmt: skip
    assert "restore a 60" in pool.log


def test_on_the_host_too_the_longest_unused_goes_but_not_the_one_that_is_coming_back() -> None:
    pool = Pool(device=60, host=120)
    for name in ("a", "b", "c", "d"):
        pool.get(name, 60)
    assert [line for line in pool.log if line.startswith(("offload", "drop"))] == [
        "offload a 60", "offload b 60", "drop a 60", "offload c 60",
    ]  # fmt: skip

    pool.log.clear()
    pool.get("b", 60)
    assert [line for line in pool.log if line[0] != "c" and " 60" in line] == [
        "drop c 60", "offload d 60", "restore b 60",
    ]  # fmt: skip


def test_a_model_that_cannot_be_moved_is_dropped() -> None:
    pool = Pool(device=100, host=100)
    pool.get("a", 60, movable=False)
    pool.get("b", 60)

    assert pool.log == ["load a 60", "a stays", "a unloads", "drop a 60", "load b 60"]


def test_a_move_that_cannot_be_recorded_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise OperationalError("INSERT", {}, Exception("the server is away"))

    monkeypatch.setattr(models, "autocommit", away)

    assert ModelsOfJob(ResidentModels(), uuid4()).get("a", lambda: 1) == 1


def test_a_model_that_can_never_fit_is_refused_and_costs_no_other_its_place() -> None:
    pool = Pool(device=100)
    kept = pool.get("a", 60)

    with pytest.raises(JobError, match=r"b needs 0\.0 GB .* GRISTMILL_MODEL_MEMORY"):
        pool.get("b", 101)
    assert pool.get("a", 60) is kept


@pytest.mark.parametrize(
    ("given", "gpu", "expected"),
    [("40GB", 10_000, Limits(40_000_000_000, 400)), ("", 10_000, Limits(9_000, 400)), ("", None, Limits(400, 400))],
)
def test_what_models_may_take_is_a_setting_or_else_the_machines(
    monkeypatch: pytest.MonkeyPatch, given: str, gpu: int | None, expected: Limits
) -> None:
    monkeypatch.setenv("GRISTMILL_MODEL_MEMORY", given)
    monkeypatch.setattr(models.hardware, "device_bytes", lambda _: gpu)
    monkeypatch.setattr(models.hardware, "host_bytes", lambda: 800)
    for each in (models.settings, models._configured):
        each.cache_clear()
    try:
        assert models._configured() == expected
    finally:
        monkeypatch.undo()
        for each in (models.settings, models._configured):
            each.cache_clear()
