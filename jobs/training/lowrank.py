"""Low-rank approximation of a matrix, many times faster than an SVD: an aimed range finder and a small eigenproblem.

Halko, Martinsson and Tropp 2011 (doi 10.1137/090771806), algorithms 4.3 and 4.4. The published DBC-DAC recipe leaves
out the aim: it projects on a random orthonormal Q, which catches rank / n of the energy whatever the spectrum is, and
so errs 6 to 26 times more than it must. One product with A'A turns Q towards the leading singular vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WIDTH = 16  # the basis has a multiple of this many columns: 128 are multiplied faster than 120
SIGNS = 8  # entries a row of a sparse test matrix that are not zero, Martinsson and Tropp 2020, section 9.2
COLLINEAR = 1e-5  # least over largest pivot: below, the Gram matrix has lost the smallest directions, even in float64


class Factors(NamedTuple):
    """A ~ U diag(s) Vt; the columns of U and the rows of Vt are orthonormal, s falls."""

    U: Tensor  # (m, r)
    s: Tensor  # (r,)
    Vt: Tensor  # (r, n)

    def product(self) -> Tensor:
        return (self.U * self.s) @ self.Vt


def approximate(
    a: Tensor,
    rank: int,
    *,
    oversample: int | None = None,
    aims: int = 1,
    sparse: bool = False,
    generator: torch.Generator | None = None,
) -> Factors:
    """The nearest matrix of this rank to a (m, n), or nearly: the error is 1.00 to 1.06 times the least possible.

    That holds at 10 % rank for spectra that fall like 1/i or exponentially, with the default `oversample` of a fifth of
    the rank; more, or a second aim, comes nearer. Values that are rounding noise are dropped, so that the rank
    found may be less than asked for; a matrix of zeros has rank 0. `sparse` draws few random signs for many normal
    numbers, which saves the drawing, not the products. Half precision is computed and returned in float32.
    Raises ValueError for a rank below 1, fewer aims than one, and entries that are not finite.
    """
    if rank < 1 or aims < 1:
        raise ValueError(f"rank {rank} and aims {aims} must be at least 1")
    if a.dtype in (torch.float16, torch.bfloat16):
        a = a.float()
    m, n = a.shape
    if m < n:  # the basis on the smaller side
        u, s, vt = approximate(a.T, rank, oversample=oversample, aims=aims, sparse=sparse, generator=generator)
        return Factors(vt.T, s, u.T)

    rank = min(rank, n)
    width = rank + (max(8, rank // 5) if oversample is None else oversample)
    width = -(-width // WIDTH) * WIDTH
    if width < n:
        q = _test_matrix(a, width, sparse, generator)  # (n, k)
        for _ in range(aims):
            y = a @ q  # (m, k)
            y /= y.abs().amax().clamp(min=torch.finfo(a.dtype).tiny)  # squares of 1e20 are beyond float32
            q = _orthonormal(a.T @ y)
        b = a @ q  # (m, k)
    else:
        q, b = None, a
    gram = b.double()
    gram = gram.T @ gram
    if not torch.isfinite(gram.sum()):
        raise ValueError(f"a {m} x {n} matrix with entries that are not finite has no approximation")
    squares, vectors = torch.linalg.eigh(gram)  # rising
    s = squares.flip(0)[:rank].clamp(min=0).sqrt()
    s = s[s > s[0] * _noise(a)]
    vectors = vectors.flip(1)[:, : len(s)]
    u = b @ (vectors / s).to(a.dtype)
    v = vectors.to(a.dtype) if q is None else q @ vectors.to(a.dtype)
    return Factors(u, s.to(a.dtype), v.T)


def adaptive(
    a: Tensor,
    energy: float = 0.95,
    cap: float = 0.25,
    *,
    aims: int = 1,
    sparse: bool = False,
    generator: torch.Generator | None = None,
) -> Factors | None:
    """The approximation of the smallest rank that holds this share of the energy (of the sum of squares) of a (m, n).

    None where that takes a rank above `cap` times the smaller side: the spectrum is flat, as that of noise and of fresh
    weights is, and no approximation is worth its error. This is mostly seen after the first small attempt: singular
    values fall, so what r of them hold bounds what any more can add. Also None for a matrix of zeros.
    Raises ValueError for entries that are not finite.
    """
    if not (0 < energy <= 1 and 0 < cap <= 1):
        raise ValueError(f"energy {energy} and cap {cap} must be above 0 and at most 1")
    total = float(torch.linalg.vector_norm(a, dtype=torch.float64)) ** 2
    most = max(1, int(cap * min(a.shape)))
    rank = min(WIDTH // 2, most)
    while total:
        found = approximate(a, rank, aims=aims, sparse=sparse, generator=generator)
        shares = found.s.double().square() / total
        held = shares.cumsum(0)
        if held[-1] >= energy or len(shares) < rank:  # all there is but rounding
            r = int((held < energy).sum()) + 1
            return Factors(found.U[:, :r], found.s[:r], found.Vt[:r])
        needed = rank + float((energy - held[-1]) / shares[-1])  # if the values fell no further
        if needed > most or rank == most:
            return None
        rank = min(most, max(2 * rank, int(needed) + 1))
    return None


def _test_matrix(a: Tensor, width: int, sparse: bool, generator: torch.Generator | None) -> Tensor:
    """(n, width) random, drawn where the generator lives."""
    n = a.shape[1]
    place = generator.device if generator else a.device
    if not sparse:
        return torch.randn(n, width, dtype=a.dtype, device=place, generator=generator).to(a.device)
    where = torch.randint(width, (n, SIGNS), device=place, generator=generator)
    signs = torch.randint(2, (n, SIGNS), device=place, generator=generator).to(a.dtype) * 2 - 1
    return torch.zeros(n, width, dtype=a.dtype, device=place).scatter_(1, where, signs).to(a.device)


def _orthonormal(y: Tensor) -> Tensor:
    """An orthonormal basis of the columns of y (n, k).

    Cholesky of the Gram matrix in float64 takes 1.4 ms for 1000 x 108 where Householder's QR takes 7.5, on two cores.
    y came out of float32, so its condition is at most about 1e7, and squared within float64's reach; columns that are
    nearer to dependent than COLLINEAR, as in a matrix of low rank, go to QR.
    """
    exact = y.double()
    lower, failed = torch.linalg.cholesky_ex(exact.T @ exact)
    pivots = lower.diagonal()
    if failed or not pivots.min() > COLLINEAR * pivots.max():
        return torch.linalg.qr(y)[0]
    return torch.linalg.solve_triangular(lower, exact.T, upper=False).T.to(y.dtype)


def _noise(a: Tensor) -> float:
    """Singular values below this share of the largest are rounding: of the products, or of the float64 Gram matrix."""
    return max(max(a.shape) * torch.finfo(a.dtype).eps, torch.finfo(torch.float64).eps ** 0.5)
