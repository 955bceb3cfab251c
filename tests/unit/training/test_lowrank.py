"""Low-rank approximation: near the least possible error, and the published recipe's error is found out."""

import pytest
import torch
from torch import Tensor

from jobs.training.lowrank import Factors, adaptive, approximate

SIZES = [(256, 256), (600, 200), (200, 600)]


def matrix(m: int, n: int, spectrum: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(m, n) and its singular values; 1/i and exponential spectra fall, a Gaussian one is nearly flat."""
    random = torch.Generator().manual_seed(seed)
    if spectrum == "flat":
        a = torch.randn(m, n, generator=random)
        return a, torch.linalg.svdvals(a.double())
    k = min(m, n)
    i = torch.arange(1, k + 1, dtype=torch.float64)
    s = 1 / i if spectrum == "1/i" else torch.exp(-i / (0.03 * k))
    u = torch.linalg.qr(torch.randn(m, k, dtype=torch.float64, generator=random))[0]
    v = torch.linalg.qr(torch.randn(n, k, dtype=torch.float64, generator=random))[0]
    return ((u * s) @ v.T).float(), s


def error_ratio(a: Tensor, s: Tensor, found: Factors, rank: int) -> float:
    """Of the approximation's error over the least that a matrix of this rank can have (Eckart and Young 1936)."""
    product = (found.U.double() * found.s) @ found.Vt.double()
    return float((a.double() - product).norm() / s[rank:].norm())


def unaimed(a: Tensor, rank: int) -> Factors:
    """The published recipe: Q orthonormal and random, then the eigenvectors of (AQ)'AQ."""
    q = torch.linalg.qr(torch.randn(a.shape[1], rank + 8, generator=torch.Generator().manual_seed(1)))[0]
    b = a @ q
    squares, vectors = torch.linalg.eigh(b.T @ b)
    s, vectors = squares.flip(0)[:rank].clamp(min=0).sqrt(), vectors.flip(1)[:, :rank]
    return Factors(b @ vectors / s, s, (q @ vectors).T)


@pytest.mark.parametrize("spectrum", ["1/i", "exponential"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sparse", [False, True])
def test_the_error_is_within_a_tenth_of_the_least_possible_one(
    size: tuple[int, int], spectrum: str, sparse: bool
) -> None:
    a, s = matrix(*size, spectrum)
    rank = min(size) // 10

    ratios = [
        error_ratio(a, s, approximate(a, rank, sparse=sparse, generator=torch.Generator().manual_seed(seed)), rank)
        for seed in range(5)
    ]

    assert max(ratios) <= 1.10
    assert min(ratios) >= 1 - 1e-6


@pytest.mark.parametrize("spectrum", ["1/i", "exponential"])
def test_the_published_recipe_which_does_not_aim_fails_that_bar_by_far(spectrum: str) -> None:
    a, s = matrix(256, 256, spectrum)

    assert error_ratio(a, s, unaimed(a, 25), 25) > 3


def test_a_second_aim_comes_nearer_to_the_least_error() -> None:
    a, s = matrix(256, 256, "1/i")

    once, twice = (
        error_ratio(a, s, approximate(a, 25, aims=aims, generator=torch.Generator().manual_seed(3)), 25)
        for aims in (1, 2)
    )

    assert 1 - 1e-6 <= twice < 1 + (once - 1) / 3


@pytest.mark.parametrize("size", SIZES)
def test_factors_are_orthonormal_and_values_fall_and_are_those_of_the_svd(size: tuple[int, int]) -> None:
    a, s = matrix(*size, "1/i")

    found = approximate(a, 20, aims=2, generator=torch.Generator().manual_seed(0))

    eye = torch.eye(20)
    assert found.U.shape == (size[0], 20)
    assert found.Vt.shape == (20, size[1])
    torch.testing.assert_close(found.U.T @ found.U, eye, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.Vt @ found.Vt.T, eye, atol=1e-4, rtol=0)
    assert (found.s.diff() <= 0).all()
    torch.testing.assert_close(found.s[:5].double(), s[:5], atol=0, rtol=1e-3)


def test_at_full_rank_the_product_is_the_matrix() -> None:
    a, _ = matrix(90, 60, "flat")

    torch.testing.assert_close(approximate(a, 60).product(), a, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rank", [1, 3, 40])
def test_of_a_matrix_of_lower_rank_only_that_rank_is_found_and_it_is_exact(rank: int) -> None:
    random = torch.Generator().manual_seed(0)
    a = torch.randn(500, rank, generator=random) @ torch.randn(rank, 300, generator=random)

    found = approximate(a, 100, generator=random)

    assert len(found.s) == rank
    torch.testing.assert_close(found.product(), a, atol=1e-4 * float(a.norm()), rtol=0)
    torch.testing.assert_close(found.Vt @ found.Vt.T, torch.eye(rank), atol=1e-4, rtol=0)


def test_values_over_many_orders_of_magnitude_stay_exact_in_float32() -> None:
    k = 200
    random = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(k, k, dtype=torch.float64, generator=random))[0] for _ in range(2))
    s = torch.logspace(0, -12, k, dtype=torch.float64)  # the first twenty fall to 0.07, the fiftieth is at 1e-3

    found = approximate(((u * s) @ v.T).float(), 50, aims=2, generator=random)

    torch.testing.assert_close(found.s[:45].double(), s[:45], atol=0, rtol=1e-2)


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_very_small_and_very_large_matrices_are_as_exact(size: float) -> None:
    a, s = matrix(256, 256, "1/i")

    found = approximate(a * size, 25, generator=torch.Generator().manual_seed(0))

    assert error_ratio(a, s, found._replace(s=found.s / size), 25) < 1.10


def test_the_same_generator_gives_the_same_factors_and_leaves_the_global_one_alone() -> None:
    a, _ = matrix(256, 256, "1/i")
    before = torch.get_rng_state()

    first, second = (approximate(a, 10, generator=torch.Generator().manual_seed(5)) for _ in range(2))

    assert torch.equal(first.product(), second.product())
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_is_computed_in_float32() -> None:
    a, s = matrix(256, 256, "1/i")

    found = approximate(a.bfloat16(), 25)

    assert found.U.dtype == torch.float32
    assert error_ratio(a.bfloat16(), s, found, 25) < 1.10


def test_entries_that_are_not_finite_and_ranks_below_one_are_errors_and_zeros_have_rank_0() -> None:
    bad = torch.ones(40, 40)
    bad[3, 4] = torch.nan

    with pytest.raises(ValueError, match="not finite"):
        approximate(bad, 3)
    with pytest.raises(ValueError, match="not finite"):
        adaptive(bad)
    with pytest.raises(ValueError, match="rank 0"):
        approximate(torch.ones(40, 40), 0)
    assert len(approximate(torch.zeros(40, 30), 3).s) == 0
    assert adaptive(torch.zeros(40, 30)) is None


@pytest.mark.parametrize(("spectrum", "least"), [("1/i", 12), ("exponential", 12)])
def test_adaptive_finds_nearly_the_smallest_rank_that_holds_the_energy(spectrum: str, least: int) -> None:
    a, s = matrix(256, 256, spectrum)
    needed = int((s.square().cumsum(0) / s.square().sum() < 0.95).sum()) + 1

    found = adaptive(a, energy=0.95, generator=torch.Generator().manual_seed(0))

    assert found is not None
    assert needed == least
    assert needed <= len(found.s) <= needed + 1
    assert 1 - float((a - found.product()).norm() / a.norm()) ** 2 >= 0.949


@pytest.mark.parametrize("size", SIZES)
def test_adaptive_leaves_a_flat_spectrum_alone_after_one_small_attempt(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = matrix(*size, "flat")
    ranks = []
    real = approximate

    def counted(a: Tensor, rank: int, **options: object) -> Factors:
        ranks.append(rank)
        return real(a, rank, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("jobs.training.lowrank.approximate", counted)

    assert adaptive(a, energy=0.95) is None
    assert set(ranks) == {8}
