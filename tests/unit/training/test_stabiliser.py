"""The gradient stabiliser: what it does to gradients, what it leaves alone, and what it counts."""

import pytest
import torch
from torch import Tensor, nn

from jobs.training.stabiliser import PRESETS, Parameters, Stabiliser


def decaying(m: int = 96, n: int = 64, seed: int = 0) -> Tensor:
    """(m, n) with singular values 1/i, as gradients have: most of the energy is in few directions."""
    random = torch.Generator().manual_seed(seed)
    k = min(m, n)
    u = torch.linalg.qr(torch.randn(m, k, generator=random))[0]
    v = torch.linalg.qr(torch.randn(n, k, generator=random))[0]
    return (u / torch.arange(1, k + 1)) @ v.T


def flat(m: int = 96, n: int = 64) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(0))


def error(a: Tensor, near: Tensor | None) -> float:
    assert near is not None
    return float((a - near).norm() / a.norm())


def with_gradient(*gradients: Tensor) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    """Parameters of zeros with these gradients, and SGD of rate 1: a step leaves minus the gradient that it saw."""
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    return parameters, torch.optim.SGD(parameters, lr=1.0)


def test_a_gradient_becomes_of_low_rank_and_stays_near_and_no_larger() -> None:
    gradient = decaying()
    (weight,), optimizer = with_gradient(gradient)
    stabiliser = Stabiliser()
    stabiliser.attach(optimizer)

    optimizer.step()

    seen = -weight.detach()
    assert torch.linalg.matrix_rank(seen) <= 6
    assert error(gradient, seen) < 0.5
    assert seen.norm() <= gradient.norm() * (1 + 1e-6)
    assert stabiliser.counts == {"changed": 1}
    assert stabiliser.seconds > 0


def test_detached_it_changes_nothing() -> None:
    (weight,), optimizer = with_gradient(decaying())
    stabiliser = Stabiliser()
    stabiliser.attach(optimizer)
    stabiliser.detach()

    optimizer.step()

    torch.testing.assert_close(-weight.detach(), decaying())
    assert not stabiliser.counts


def test_a_flat_matrix_is_left_alone_and_counted() -> None:
    (weight,), optimizer = with_gradient(flat())
    stabiliser = Stabiliser("aggressive")
    stabiliser.attach(optimizer)

    optimizer.step()

    torch.testing.assert_close(-weight.detach(), flat())
    assert stabiliser.counts == {"flat": 1}


def test_vectors_small_matrices_and_the_rows_of_an_embedding_are_left_alone() -> None:
    rows = decaying()
    rows[7:] = 0
    (vector, small, embedding), optimizer = with_gradient(torch.ones(40), decaying(31, 31), rows)
    stabiliser = Stabiliser()
    stabiliser.attach(optimizer)

    optimizer.step()

    torch.testing.assert_close(-vector.detach(), torch.ones(40))
    torch.testing.assert_close(-small.detach(), decaying(31, 31))
    torch.testing.assert_close(-embedding.detach(), rows)
    assert not stabiliser.counts


def test_an_embedding_is_changed_where_that_is_asked_for() -> None:
    rows = decaying()
    rows[7:] = 0
    _, optimizer = with_gradient(rows)
    stabiliser = Stabiliser(Parameters(embeddings=True))
    stabiliser.attach(optimizer)

    optimizer.step()

    assert stabiliser.counts == {"changed": 1}


def test_with_a_model_its_embeddings_and_what_is_tied_to_them_are_left_alone() -> None:
    model = nn.Sequential(nn.Embedding(64, 64), nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    model[2].weight = model[0].weight
    dead = decaying(64, 64)
    dead[20:] = 0  # of units that died: no embedding
    for parameter in model.parameters():
        parameter.grad = decaying(64, 64)
    model[1].weight.grad = dead
    stabiliser = Stabiliser()
    stabiliser.attach(optimizer := torch.optim.SGD(model.parameters(), lr=1.0), model)

    optimizer.step()

    assert stabiliser.counts == {"changed": 1}
    torch.testing.assert_close(model[0].weight.grad, decaying(64, 64))


def test_gradients_that_are_not_finite_become_zeros_and_weights_stay_finite() -> None:
    bad, vector = decaying(), torch.ones(40)
    bad[3, 4], vector[2] = torch.nan, torch.inf
    (weight, bias, other), optimizer = with_gradient(bad, vector, torch.ones(40))
    stabiliser = Stabiliser()
    stabiliser.attach(optimizer)

    optimizer.step()

    assert not weight.any()
    assert not bias.any()
    torch.testing.assert_close(other.detach(), -torch.ones(40))
    assert stabiliser.counts == {"zeroed": 2}


@pytest.mark.parametrize("size", [1e-20, 1e25])
def test_exploding_and_vanishing_gradients_are_approximated_like_any_other(size: float) -> None:
    near = Stabiliser(Parameters(threshold=1e-30)).stabilised(decaying() * size)

    assert near is not None
    assert error(decaying(), near / size) < 0.5


def test_rows_whose_entries_cancel_do_not_outweigh_the_others() -> None:
    gradient = decaying()
    gradient[5] -= gradient[5].mean()  # its sum is nearly zero

    assert error(gradient, Stabiliser().stabilised(gradient)) < 0.6


def test_rows_of_different_size_count_alike() -> None:
    gradient = decaying()
    gradient[:48] *= 1e-3

    near = Stabiliser().stabilised(gradient)

    assert near is not None
    assert error(gradient[:48], near[:48]) < 0.7
    u, s, v = torch.linalg.svd(gradient, full_matrices=False)
    unbalanced = (u[:, :6] * s[:6]) @ v[:6]
    assert error(gradient[:48], near[:48]) < error(gradient[:48], unbalanced[:48])


def test_residuals_bring_it_nearer_and_end_when_little_is_left() -> None:
    gradient = 1000 * decaying(256, 256)  # so that `threshold`, which is also the least row sum, is far from the sums
    base = {"rank_ratio_proj": 0.1, "energy": 1.0}
    errors = [error(gradient, Stabiliser(Parameters(iterations=k, **base)).stabilised(gradient)) for k in (0, 1, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.8 * errors[0]

    early = Stabiliser(Parameters(iterations=4, threshold=0.5, **base)).stabilised(gradient)
    assert error(gradient, early) == pytest.approx(errors[0])


def test_less_energy_takes_a_smaller_rank() -> None:
    gradient = decaying(256, 256)

    ranks = [
        int(torch.linalg.matrix_rank(Stabiliser(Parameters(energy=share, flat=0.1)).stabilised(gradient)))
        for share in (0.5, 0.9, 0.99)
    ]

    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize("options", [{"sparse": True}, {"power_iterations": 2}])
def test_a_sparse_projection_and_more_power_iterations_are_as_near(options: dict[str, int]) -> None:
    gradient = decaying(256, 256)

    plain = error(gradient, Stabiliser().stabilised(gradient))

    assert error(gradient, Stabiliser(Parameters(**options)).stabilised(gradient)) < 1.1 * plain


def test_two_processes_with_the_same_gradient_make_the_same_step() -> None:
    first, second = Stabiliser().stabilised(decaying()), Stabiliser().stabilised(decaying())

    assert first is not None
    assert second is not None
    assert torch.equal(first, second)


def test_presets_differ_and_unknown_ones_and_ratios_are_errors() -> None:
    assert len({PRESETS["conservative"], PRESETS["balanced"], PRESETS["aggressive"]}) == 3
    with pytest.raises(ValueError, match="unknown preset 'bold': use conservative"):
        Stabiliser("bold")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rank_ratio_proj 0 must be above 0"):
        Parameters(rank_ratio_proj=0)
