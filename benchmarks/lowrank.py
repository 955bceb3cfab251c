"""Low rank against the SVD, torch.svd_lowrank, the published recipe and nn.Linear: time and error, on two cores.

Ratios are medians over interleaved rounds of the peer's time over ours; errors are the worst of all rounds, as a
multiple of the least possible one. Takes about a minute on a machine that does nothing else. Last line: {"svd_ratio",
"svd_lowrank_ratio", "error_ratio": {size spectrum: …}, "flat_refused": {size: …}, "linear_ratio": {layer: …},
"linear_work_ratio": the same in processor time, which says what is saved when other processes want the cores too}.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the workers, see workers.process.threads; before torch

import torch
from torch import Tensor, nn

from jobs.training import factorised, lowrank

ROUNDS = 7
SIZES = [(256, 256), (1000, 1000), (5000, 256)]
SPECTRA: dict[str, Callable[[Tensor, int], Tensor]] = {
    "1/i": lambda i, k: 1 / i,
    "exponential": lambda i, k: torch.exp(-i / (0.03 * k)),
}
LAYERS = [(768, 768), (768, 3072), (3072, 768)]
TOKENS = 4096
SHARE = 0.1


def main() -> None:
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, rank {SHARE:.0%} of the smaller side, {ROUNDS} rounds\n")
    kinds = ("svd_ratio", "svd_lowrank_ratio", "error_ratio", "flat_refused", "linear_ratio", "linear_work_ratio")
    result: dict[str, dict[str, float | bool]] = {name: {} for name in kinds}

    columns = (
        "svd ms",
        "svd_lowrank",
        "ours",
        "x svd",
        "x lowrank",
        "error",
        "unaimed ms",
        "error",
        "adaptive ms",
        "r",
    )
    print(f"{'':24}" + "".join(f"{column:>12}" for column in columns))
    for m, n in SIZES:
        for spectrum in (*SPECTRA, "flat"):
            name = f"{m}x{n} {spectrum}"
            row = decompositions(m, n, spectrum)
            print(f"{name:24}" + "".join(f"{value:>12.2f}" for value in row["row"]) + f"{row['adaptive']:>12}")
            if spectrum == "flat":
                result["flat_refused"][f"{m}x{n}"] = row["adaptive"] == "refused"
                continue
            for key in ("svd_ratio", "svd_lowrank_ratio", "error_ratio"):
                result[key][name] = round(row[key], 3)

    print(f"\n{'':24}" + "".join(f"{column:>12}" for column in ("rank", "dense ms", "thin ms", "ratio", "work")))
    for n, m in LAYERS:
        name = f"{n}->{m}"
        rank, dense, thin, wall, work = linear(n, m)
        print(f"{name:24}{rank:>12}{dense:>12.1f}{thin:>12.1f}{wall:>12.2f}{work:>12.2f}")
        result["linear_ratio"][name] = round(wall, 2)
        result["linear_work_ratio"][name] = round(work, 2)
    print(json.dumps(result))


def decompositions(m: int, n: int, spectrum: str) -> dict[str, Any]:
    """A row of the table, and its ratios by the names of the result."""
    a, s = matrix(m, n, spectrum)
    rank = round(SHARE * min(m, n))
    least = s[rank:].norm()
    ours, published = partial(lowrank.approximate, a, rank), partial(unaimed, a, rank)
    times = interleaved(
        {
            "svd": partial(torch.linalg.svd, a, full_matrices=False),
            "svd_lowrank": partial(torch.svd_lowrank, a, rank + 8),
            "ours": ours,
            "unaimed": published,
            "adaptive": partial(lowrank.adaptive, a),
        }
    )
    worst, worst_published = (
        max(float((a.double() - find().product().double()).norm() / least) for _ in range(ROUNDS))
        for find in (ours, published)
    )
    ms = {name: 1000 * median(values) for name, values in times.items()}
    svd, peer = ratio(times, "svd", "ours"), ratio(times, "svd_lowrank", "ours")
    found = lowrank.adaptive(a)
    row = [ms["svd"], ms["svd_lowrank"], ms["ours"], svd, peer, worst, ms["unaimed"], worst_published, ms["adaptive"]]
    return {
        "row": row,
        "svd_ratio": svd,
        "svd_lowrank_ratio": peer,
        "error_ratio": worst,
        "adaptive": "refused" if found is None else str(len(found.s)),
    }


def linear(n: int, m: int) -> tuple[int, float, float, float, float]:
    """The rank, milliseconds of forward and backward of a dense and of a low-rank layer, their ratio, and of work."""
    x = torch.randn(TOKENS, n, requires_grad=True)
    dense = nn.Linear(n, m)
    thin = nn.Sequential(nn.Linear(n, m))
    (rank,) = factorised.factorise(thin, ratio=SHARE).values()
    upstream = torch.randn(TOKENS, m)

    def step(layer: nn.Module) -> None:
        layer.zero_grad()
        x.grad = None
        layer(x).backward(upstream)

    candidates = {"dense": partial(step, dense), "thin": partial(step, thin)}
    times, work = interleaved(candidates), interleaved(candidates, time.process_time)
    ms = {name: 1000 * median(values) for name, values in times.items()}
    return rank, ms["dense"], ms["thin"], ratio(times, "dense", "thin"), ratio(work, "dense", "thin")


def matrix(m: int, n: int, spectrum: str) -> tuple[Tensor, Tensor]:
    """(m, n) and its singular values; "flat" is Gaussian, as noise and fresh weights are."""
    if spectrum == "flat":
        a = torch.randn(m, n)
        return a, torch.linalg.svdvals(a.double())
    k = min(m, n)
    s = SPECTRA[spectrum](torch.arange(1, k + 1, dtype=torch.float64), k)
    u, v = (torch.linalg.qr(torch.randn(side, k, dtype=torch.float64))[0] for side in (m, n))
    return ((u * s) @ v.T).float(), s


def unaimed(a: Tensor, rank: int) -> lowrank.Factors:
    """The published DBC-DAC recipe: Q orthonormal and random, then the eigenvectors of (AQ)'AQ."""
    q = torch.linalg.qr(torch.randn(a.shape[1], rank + 8))[0]
    b = a @ q
    squares, vectors = torch.linalg.eigh(b.T @ b)
    s, vectors = squares.flip(0)[:rank].clamp(min=0).sqrt(), vectors.flip(1)[:, :rank]
    return lowrank.Factors(b @ vectors / s, s, (q @ vectors).T)


def interleaved(
    candidates: dict[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each candidate in each round; one untimed round goes before."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(ROUNDS + 1):
        for name, run in candidates.items():
            begin = clock()
            run()
            if number:
                times[name].append(clock() - begin)
    return times


def ratio(times: dict[str, list[float]], peer: str, ours: str) -> float:
    return median(a / b for a, b in zip(times[peer], times[ours], strict=True))


if __name__ == "__main__":
    main()
