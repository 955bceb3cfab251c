"""The optimal brain surgeon: which inputs of a linear layer can go, and what the others' weights are to be then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jobs.text.tokens import TextBatch

_AT_ONCE = 16  # inputs that go before what is left is judged anew
_DAMPED = 1e-3  # of the mean diagonal: inputs that always move together have no inverse


@torch.no_grad()
def moments(model: nn.Module, layers: Iterable[nn.Linear], batches: Sequence[TextBatch]) -> dict[nn.Linear, Tensor]:
    """(inputs, inputs) of each layer: the sum over all tokens of x x', in one pass over the batches."""
    found = {layer: torch.zeros(layer.in_features, layer.in_features) for layer in layers}
    mask = torch.empty(0)

    def add(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0][mask]  # (tokens, inputs)
        found[layer].addmm_(x.T, x)

    hooks = [layer.register_forward_pre_hook(add) for layer in found]
    try:
        for batch in batches:
            mask = batch.mask.bool()
            model(batch.ids, batch.mask)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@torch.no_grad()
def remove(weight: Tensor, moments: Tensor, share: float, size: int = 1) -> tuple[Tensor, Tensor]:
    """The inputs that stay, in their order, and the (m, stay) weights with which they give what all n of (m, n) gave.

    Inputs go in groups of `size`, a head's width or 1; at least one group stays. Those go first whose loss, in squared
    error of the outputs, the others' weights can make up for best: group S of the (m, n) weights W with the inverse H
    of the moments costs tr(W_S H_SS^-1 W_S'), and W - W_S H_SS^-1 H_S: is the least-squares answer without it.
    Hassibi and Stork 1993, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon; for structures,
    Kurtic, Frantar, Alistarh 2023, ZipLM (arXiv 2302.04089), section 3.1.
    """
    groups = len(moments) // size
    left = torch.arange(len(moments)).reshape(groups, size)
    kept = weight.double()
    damped = moments.double() + _DAMPED * moments.diagonal().double().mean().clamp(min=1e-12) * torch.eye(len(moments))
    inverse = torch.linalg.inv(damped)
    going = min(groups - 1, round(share * groups))
    while going:
        count = len(left)
        blocks = inverse.reshape(count, size, count, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (G, S, S)
        parts = kept.reshape(len(kept), count, size).permute(1, 2, 0)  # (G, S, m)
        cost = (parts * torch.linalg.solve(blocks, parts)).sum(dim=(1, 2))
        gone = cost.topk(min(going, max(1, _AT_ONCE // size)), largest=False).indices
        stay = torch.ones(count, dtype=torch.bool)
        stay[gone] = False
        there, out = stay.repeat_interleave(size), (~stay).repeat_interleave(size)
        answer = torch.linalg.solve(inverse[out][:, out], inverse[out])  # (out, n): H_SS^-1 H_S:
        kept = (kept - kept[:, out] @ answer)[:, there]
        inverse = (inverse - inverse[:, out] @ answer)[there][:, there]
        left, going = left[stay], going - len(gone)
    return left.flatten(), kept.to(weight.dtype)
