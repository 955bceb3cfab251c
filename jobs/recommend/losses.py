"""The losses of the recommender: softmax over all items, softmax over a sample, and gBCE, each with soft targets.

All are sums over the targets of a batch. Items of the window that cannot be the answer are left out of each. The
sample of negatives is drawn from torch's generator, which the engine seeds for each step, and shared by the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from jobs.recommend.batches import Batch

LOSSES = ("full", "sampled", "gbce")
LARGEST = 2**27  # logits of a batch, 512 MB and as much for their gradients: beyond, `auto` draws a sample


@dataclass(frozen=True)
class Loss:
    """What to minimise. `kind`: "auto" is full where its logits fit, else sampled."""

    kind: str = "auto"
    negatives: int = 512  # drawn each step, for sampled and gbce
    calibration: float = 0.75  # t of gBCE: 0 is plain BCE, 1 gives probabilities as without sampling
    smoothing: float = 0.0  # share of the target that goes to all items alike; of the two softmaxes

    def __post_init__(self) -> None:
        if self.kind not in ("auto", *LOSSES):
            raise ValueError(f"unknown loss {self.kind!r}: use auto, {', '.join(LOSSES[:-1])} or {LOSSES[-1]}")

    def resolved(self, positions: int, items: int) -> Loss:
        """With `auto` decided, for batches of so many positions."""
        return (
            replace(self, kind="full" if positions * items <= LARGEST else "sampled") if self.kind == "auto" else self
        )

    def of(self, vectors: Tensor, bias: Tensor | None, users: Tensor, batch: Batch) -> Tensor:
        """() the sum over the targets.

        vectors (items + 2, d) of the items, with rows for padding and mask; bias (items,); users (T, d) the states
        that are multiplied with them.
        """
        items = len(vectors) - 2
        if self.kind == "full":
            return _full(vectors, bias, users, batch, self.smoothing)
        own, others = _sampled(vectors, bias, users, batch, self.negatives)
        if self.kind == "gbce":
            return _gbce(own, others, batch.weight, self.calibration, self.negatives, items)
        others = others + math.log(max(1.0, items / self.negatives))  # each stands for several
        own_once = own.masked_fill(batch.weight == 0, -torch.inf)
        return _soft(torch.cat([own_once, others], dim=1), own, batch.weight, self.smoothing)


def _full(vectors: Tensor, bias: Tensor | None, users: Tensor, batch: Batch, smoothing: float) -> Tensor:
    if not smoothing:
        return _Full.apply(vectors, bias, users, batch)
    open_ = logits(vectors, bias, users, batch)
    return _soft(open_, open_.gather(1, batch.target), batch.weight, smoothing)


class _Full(torch.autograd.Function):
    """Cross entropy over all items, whose gradient is the probabilities less the targets' weights.

    One softmax over (T, items) besides the products. By autograd, back through log-softmax, mask and gather, a step
    took a third longer, and half as long again with ties.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, bias: Tensor | None, users: Tensor, batch: Batch) -> Tensor:
        open_ = logits(vectors, bias, users, batch)
        p = open_.softmax(dim=1, dtype=torch.promote_types(open_.dtype, torch.float32))
        ctx.save_for_backward(p, vectors, users, batch.target, batch.weight)
        ctx.precision = open_.dtype  # lower than the weights' under autocast, and for the products that follow
        log_sum = open_.amax(dim=1) - p.amax(dim=1).log()
        return (log_sum[:, None] - open_.gather(1, batch.target)).mul(batch.weight).sum()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        p, vectors, users, target, weight = ctx.saved_tensors
        above = p.scatter_add_(1, target, -weight.to(p.dtype)).to(ctx.precision)  # (T, items + 1)
        to_vectors = torch.zeros_like(vectors)
        to_vectors[:-1] = above.T @ (users * slope).to(ctx.precision)
        to_bias = above.sum(dim=0)[:-1] * slope if ctx.needs_input_grad[1] else None
        return to_vectors, to_bias, (above @ (vectors[:-1] * slope).to(ctx.precision)).to(users.dtype), None


def logits(vectors: Tensor, bias: Tensor | None, users: Tensor, batch: Batch) -> Tensor:
    """(T, items + 1), -inf where an item cannot be the answer; the last column is padding's."""
    pad = len(vectors) - 2  # where padded entries of `known` fall
    made = F.linear(users, vectors[:-1], None if bias is None else F.pad(bias, (0, 1)))
    closed = torch.cat([batch.known, torch.full_like(batch.known[:, :1], pad)], dim=1)
    return made.scatter_(1, closed, -torch.inf)  # in place: a copy of the logits took 5 % of a step


def _sampled(
    vectors: Tensor, bias: Tensor | None, users: Tensor, batch: Batch, negatives: int
) -> tuple[Tensor, Tensor]:
    """Logits of the targets (T, n), and of negatives drawn without replacement (T, K), -inf where one is no negative.

    No negative is what the user has read, and what is a target.
    """
    drawn = torch.randperm(len(vectors) - 2, device=users.device)[:negatives]
    own = torch.einsum("td,tnd->tn", users, vectors[batch.target])
    others = F.linear(users, vectors[drawn])
    if bias is not None:
        own, others = own + bias[batch.target], others + bias[drawn]
    place = torch.full((len(vectors),), len(drawn), device=users.device)  # of an item among those drawn; or one behind
    place[drawn] = torch.arange(len(drawn), device=users.device)
    closed = place[torch.cat([batch.known, batch.target], dim=1)]
    return own, F.pad(others, (0, 1)).scatter(1, closed, -torch.inf)[:, :-1]


def _soft(open_: Tensor, own: Tensor, weight: Tensor, smoothing: float) -> Tensor:
    """Cross entropy with the targets' weights (T, n), which add up to 1 a row; `open_` is -inf elsewhere."""
    wanted = (own * weight).sum(dim=1)
    if smoothing:
        shut = open_.isinf()
        mean = open_.masked_fill(shut, 0).sum(dim=1) / (~shut).sum(dim=1)
        wanted = (1 - smoothing) * wanted + smoothing * mean
    return (open_.logsumexp(dim=1) - wanted).sum()


def _gbce(own: Tensor, others: Tensor, weight: Tensor, calibration: float, negatives: int, items: int) -> Tensor:
    """Generalised binary cross entropy (Petrov & Macdonald 2023, gSASRec, section 4): the positive's power is beta."""
    rate = min(1.0, negatives / (items - 1))  # alpha: the share of all negatives that is drawn
    power = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    each = power * (F.softplus(-own) * weight).sum(dim=1) + F.softplus(others).sum(dim=1)
    return each.sum() / (min(negatives, items) + 1)
