"""The DBC-DAC gradient stabiliser: gradients of weight matrices replaced by low-rank approximations before each step.

The method is published as code only (chen0430tw/APT-Transformer on GitHub, DBCDAC_Optimizer and its optimisation
guide): "dimension balanced compression" divides each row by its sum and keeps the leading singular vectors, "dimension
accompanying compensation" adds those of what is left. Names, presets and steps are its own but for these:
- the subspace is aimed, since its random one loses nearly everything (jobs/training/lowrank.py), and its "power
  iteration" is on the gradient, where it counts, and not on the small eigenproblem;
- a row is not divided by less than a tenth of its absolute sum: a sum is small because entries cancel, and the row then
  outweighs all others. In a recommender's gradients the published guard (1e-6) erred 1.2 to 3.5 times more than no
  balancing did, this one 1.0 to 1.6 times;
- a matrix of which the greatest rank holds less than `flat` is left alone.
Whether it helps: docs/decisions/0014-the-gradient-stabiliser.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor, nn

from jobs.training import lowrank

Preset = Literal["conservative", "balanced", "aggressive"]
LEAST_SUM = 0.1  # of a row's absolute sum


@dataclass(frozen=True)
class Parameters:
    """Raises ValueError for ratios and shares outside (0, 1]."""

    rank_ratio_proj: float = 0.1  # greatest rank, as a share of the smaller side
    rank_ratio_res: float = 0.05  # the same of each residual
    iterations: int = 0  # residuals that are approximated and added
    threshold: float = 1e-6  # least row sum; and residuals end where less than this share of the gradient is left
    energy: float = 0.95  # the smallest rank that holds this share of the sum of squares is enough
    flat: float = 0.5  # a matrix of which the greatest rank holds less is left alone
    power_iterations: int = 1
    sparse: bool = False  # a sparse random projection
    min_size: int = 32  # of the smaller side; smaller matrices are left out
    embeddings: bool = False  # also those of embeddings

    def __post_init__(self) -> None:
        for name in ("rank_ratio_proj", "rank_ratio_res", "energy", "flat"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} must be above 0 and at most 1")


PRESETS: dict[Preset, Parameters] = {  # those of the published guide
    "conservative": Parameters(rank_ratio_proj=0.15, iterations=1),
    "balanced": Parameters(),
    "aggressive": Parameters(rank_ratio_proj=0.08, threshold=1e-5),
}


class Stabiliser:
    """Works on an optimizer's gradients just before each of its steps, so after clipping and unscaling.

    `counts` says what it did to matrices: "changed", "flat" (left alone), "zeroed" (not finite, and replaced by zeros
    with any other gradient that was not, as the published one does). `seconds` is the time that it took on the host.
    """

    def __init__(self, parameters: Parameters | Preset = "balanced", *, seed: int = 42) -> None:
        if isinstance(parameters, str) and parameters not in PRESETS:
            raise ValueError(f"unknown preset {parameters!r}: use {', '.join(PRESETS)}")
        self.parameters = PRESETS[parameters] if isinstance(parameters, str) else parameters
        self.counts: Counter[str] = Counter()
        self.seconds = 0.0
        self._seed = seed
        self._hook: Any = None
        self._skip: set[int] | None = None

    def attach(self, optimizer: torch.optim.Optimizer, model: nn.Module | None = None) -> None:
        """From now on before each step of the optimizer. Embeddings are left out: with the model, its own; without, any
        matrix most of whose rows are zeros, as those are that were not looked up (or are of units that died).
        """
        self.detach()
        self._skip = None if model is None else _embeddings(model)
        self._hook = optimizer.register_step_pre_hook(self._before_step)

    def detach(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        begin = perf_counter()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not parameter.grad.is_sparse:
                    self._stabilise(parameter)
        self.seconds += perf_counter() - begin

    def _stabilise(self, parameter: nn.Parameter) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if not torch.isfinite(gradient.abs().amax()):
            gradient.zero_()
            self.counts["zeroed"] += 1
        elif gradient.ndim == 2 and min(gradient.shape) >= self.parameters.min_size and not self._looks_up(parameter):
            stable = self.stabilised(gradient)
            self.counts["flat" if stable is None else "changed"] += 1
            if stable is not None:
                gradient.copy_(stable)

    def _looks_up(self, parameter: nn.Parameter) -> bool:
        if self.parameters.embeddings:
            return False
        if self._skip is not None:
            return id(parameter) in self._skip
        assert parameter.grad is not None
        return bool((parameter.grad == 0).all(dim=1).float().mean() > 0.5)

    def stabilised(self, gradient: Tensor) -> Tensor | None:
        """The approximation of a gradient (m, n), never of a larger norm than it; None if it is better left alone.

        The random numbers are the same at each call: processes that train together and resumes need no other care.
        """
        p = self.parameters
        g = gradient.float()
        absolute = g.abs().sum(1, keepdim=True)  # (m, 1)
        sums = g.sum(1, keepdim=True)
        scale = torch.maximum(sums.abs(), LEAST_SUM * absolute).clamp(min=p.threshold)
        scale = torch.where(sums < 0, -scale, scale)
        balanced = g / scale
        total = float(balanced.square().sum())
        near, held = self._leading(balanced, p.rank_ratio_proj, total)
        if near is None or held < p.flat:
            return None
        for _ in range(p.iterations):
            left = balanced - near
            rest = float(left.square().sum())
            if rest <= p.threshold**2 * total:
                break
            more, _held = self._leading(left, p.rank_ratio_res, rest)
            if more is None:
                break
            near = near + more
        stable = near * scale
        before, after = (torch.linalg.vector_norm(each, dtype=torch.float64) for each in (g, stable))
        return (stable * (before / after).clamp(max=1).float()).to(gradient.dtype)

    def _leading(self, a: Tensor, ratio: float, total: float) -> tuple[Tensor | None, float]:
        """The approximation of the smallest rank that holds `energy`, or of the greatest; and the share it holds."""
        found = lowrank.approximate(
            a,
            max(1, round(ratio * min(a.shape))),
            aims=self.parameters.power_iterations,
            sparse=self.parameters.sparse,
            generator=torch.Generator().manual_seed(self._seed),
        )
        if not len(found.s):
            return None, 0.0
        held = found.s.double().square().cumsum(0) / total
        rank = int((held < self.parameters.energy).sum()) + 1
        cut = lowrank.Factors(found.U[:, :rank], found.s[:rank], found.Vt[:rank])
        return cut.product(), float(held[: len(cut.s)][-1])


def _embeddings(model: nn.Module) -> set[int]:
    """The ids of the weights of embeddings, which an output layer may share."""
    return {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Embedding | nn.EmbeddingBag)}
