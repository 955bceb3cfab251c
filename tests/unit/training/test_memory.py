"""Batches that fit: halved when memory runs out, in order, with the memory of the failed try given back first."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.recommend import batches
from jobs.recommend.fit import QUICK, fit
from jobs.recommend.histories import leave_one_out
from jobs.recommend.model import ARCHITECTURES, Recommender, Shape
from jobs.recommend.precompute import top_lists
from jobs.training import memory
from jobs.training.device import prepare
from jobs.training.memory import Batcher, OutOfMemory, ran_out
from tests.allocator import Allocator
from tests.unit.recommend.synthetic import ITEMS, histories

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
ROW_BYTES = 4000


def sums(part: Sequence[int]) -> list[float]:
    """Needs two tensors of ROW_BYTES a row at once."""
    made = torch.ones(len(part), ROW_BYTES // 4)
    return (made + torch.tensor(list(part))[:, None]).mean(dim=1).tolist()


def sums_in_a_cycle(part: Sequence[int]) -> list[float]:
    """The same, and leaves one of them to the garbage collector, as a graph or a frame may."""
    made = torch.ones(len(part), ROW_BYTES // 4)
    cycle: list[object] = [made]
    cycle.append(cycle)
    return (made + torch.tensor(list(part))[:, None]).mean(dim=1).tolist()


def kept(made: list[Batcher]) -> Callable[[str, torch.device], Batcher]:
    """A factory of batchers that keeps them, to look at."""

    def make(model: str, device: torch.device) -> Batcher:
        made.append(Batcher(model, device))
        return made[-1]

    return make


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_the_order_stays() -> None:
    sizes, parts = Batcher("sums", CPU), []

    with Allocator(limit_bytes=8 * 2 * ROW_BYTES + 1000):
        for part in sizes.run(sums, range(50), batch=50):
            parts.append(part)

    assert [value for part in parts for value in part] == [n + 1 for n in range(50)]
    assert [len(part) for part in parts] == [6] * 8 + [2]
    assert sizes.fits == 6


def test_the_memory_of_a_failed_try_is_free_before_the_next() -> None:
    with Allocator(limit_bytes=4 * 2 * ROW_BYTES + 100) as device:  # exactly a batch of four, and nothing left over
        found = list(Batcher("sums", CPU).run(sums_in_a_cycle, range(16), batch=8))

    assert [len(part) for part in found] == [4] * 4
    assert device.refused == 4  # and so is what those that fitted left to the garbage collector: no need to halve again


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lists_made_in_little_memory_are_the_same(architecture: str) -> None:
    torch.manual_seed(0)
    model = prepare(Recommender(Shape(architecture, items=ITEMS, dim=16, blocks=2, length=12)), CPU)
    everyone, made, told = list(histories(users=100)), [], []
    with Allocator(limit_bytes=10**9) as plenty:
        undisturbed = top_lists(model, everyone, 10, batch=64)

    with Allocator(plenty.peak // 10) as device:
        squeezed = top_lists(
            model, everyone, 10, batch=64, on_batch=lambda done, total: told.append((done, total)), batcher=kept(made)
        )

    assert device.refused >= 3
    assert made[0].fits is not None
    assert made[0].fits < 64 / 8
    assert (squeezed.items == undisturbed.items).all()
    assert (squeezed.scores == undisturbed.scores).all()
    assert told[-1] == (100, 100)
    assert told == sorted(told)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_in_little_memory_keeps_its_effective_batch(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step's gradient is the same sum in parts, so all but the rounding is the same."""
    split = leave_one_out(histories(users=40))
    recipe = replace(QUICK, architecture=architecture, epochs=1, batch=32, dropout=0.0, seed=3)
    made: list[Batcher] = []
    with Allocator(limit_bytes=10**9) as plenty:
        undisturbed = fit(split, recipe)

    monkeypatch.setattr(memory, "Batcher", kept(made))
    with Allocator(plenty.peak // 3) as device:
        squeezed = fit(split, recipe)

    training = next(each for each in made if each.model.endswith("training"))
    assert device.refused >= 1
    assert training.fits is not None
    assert training.fits < 32
    assert f"no more than {training.fits} rows fit into memory" in squeezed.record.events[-1]
    for left, right in zip(squeezed.history, undisturbed.history, strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-4)
        assert left["ndcg@10"] == pytest.approx(right["ndcg@10"], abs=0.02)


def test_a_step_that_did_not_fit_begins_anew() -> None:
    """A backward pass may have added half of its gradients before the memory ran out."""
    weight = torch.zeros(1, requires_grad=True)
    restarts = 0

    def restart() -> None:
        nonlocal restarts
        restarts += 1
        weight.grad = None

    def backward(rows: range) -> int:
        (weight * len(rows)).sum().backward()
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return len(rows)

    done = Batcher("step", CPU).accumulate(backward, 7, restart)

    assert weight.grad is not None
    assert (weight.grad.item(), sum(done), restarts) == (7, 7, 3)  # 7, 3, 1 rows at a time


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_parts_of_a_batch_are_the_batch(architecture: str) -> None:
    shape = Shape(architecture, items=ITEMS, length=10)
    windows, rows = batches.epoch(histories(), shape, np.random.default_rng(0)), np.arange(16)
    whole = windows.batch(rows)

    parts = [windows.batch(rows[begin : begin + 3]) for begin in range(0, 16, 3)]

    read = [part.rows.flatten()[part.place] for part in parts]  # what stands where the targets are
    assert torch.equal(torch.cat(read), whole.rows.flatten()[whole.place])
    assert torch.equal(torch.cat([part.target for part in parts]), whole.target)
    known = [set(closed) for part in parts for closed in part.known.tolist()]
    assert known == [set(closed) for closed in whole.known.tolist()]


def test_a_batch_of_one_that_does_not_fit_names_model_device_memory_and_remedy() -> None:
    sizes = Batcher("giant-7b", CPU)

    with Allocator(limit_bytes=ROW_BYTES), pytest.raises(OutOfMemory) as caught:
        list(sizes.run(sums, range(4), batch=4))

    said = str(caught.value)
    assert "giant-7b does not fit into cpu, " in said
    assert "GB free) even with a batch of 1: use a device with more memory, a smaller model" in said
    assert "Tried to allocate 4000 bytes" in said
    assert "\n" not in said


def test_an_error_that_is_not_about_memory_passes_as_it_is() -> None:
    calls: list[int] = []

    def broken(part: range) -> None:
        calls.append(len(part))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(Batcher("broken", CPU).run(broken, range(8), batch=8))
    assert calls == [8]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("std::bad_alloc"), True),
        (MemoryError(), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. Is the input contiguous?"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert ran_out(error) is expected


def test_a_senseless_batch_is_named() -> None:
    with pytest.raises(ValueError, match="batch is 0: give at least 1"):
        list(Batcher("sums", CPU).run(sums, range(3), batch=0))


REAL = """
import resource, sys
import numpy as np, psutil, torch
from jobs.training.memory import Batcher

torch.ones(64, 64) @ torch.ones(64, 64)  # its threads and libraries are there
torch.ones(4, 2**20, dtype=torch.uint8).sum()
room = psutil.Process().memory_info().vms + 48 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, room))
row = 2**20
make = {
    "torch": lambda count: torch.ones(count, row, dtype=torch.uint8).sum().item(),
    "numpy": lambda count: np.ones((count, row), dtype=np.uint8).sum().item(),
    "python": lambda count: len(bytearray(count * row)),
}[sys.argv[1]]
sizes = Batcher("real", torch.device("cpu"))
print(sum(sizes.run(lambda part: make(len(part)), range(100), batch=100)) // row, sizes.fits)
"""


@pytest.mark.parametrize("allocator", ["torch", "numpy", "python"])
def test_what_the_real_allocators_raise_is_understood(allocator: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REAL, allocator], cwd=ROOT, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    total, fits = done.stdout.splitlines()[-1].split()
    assert int(total) == 100
    assert 1 <= int(fits) <= 47
