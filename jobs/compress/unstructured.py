"""Unstructured pruning: the smallest weights become zero, wherever they are; dense arithmetic gets no faster by it."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

QUERY = r"query|q_lin|q_proj"  # of attention, as encoders call it


class Masked(nn.Module):
    """A weight with zeros that stay, however it is trained."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))  # that it was last set for

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def layers(model: nn.Module, pattern: str) -> dict[str, nn.Linear]:
    """The linear layers with the pattern in their names. Raises ValueError if there are none."""
    linear = {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear)}
    found = {name: each for name, each in linear.items() if re.search(pattern, name)}
    if not found:
        there = ", ".join(sorted({name.rpartition(".")[2] for name in linear})) or "none"
        raise ValueError(f"no linear layer matches {pattern!r}: their names end in {there}")
    return found


def hold(model: nn.Module, pattern: str) -> None:
    """Puts a mask on each of the layers, of ones as yet."""
    for layer in layers(model, pattern).values():
        parametrize.register_parametrization(layer, "weight", Masked(torch.ones_like(layer.weight)))


def set_zeros(model: nn.Module, share: float, epoch: int = 0) -> None:
    """The `share` of all masked weights that is smallest in magnitude becomes zero: L1, global over the layers.

    Those that are zero already stay so. Once an epoch: a training that goes on within it keeps its masks.
    """
    held = {layer: layer.parametrizations.weight[0] for layer in model.modules() if _is_held(layer)}
    if all(int(mask.epoch) == epoch for mask in held.values()) and epoch:
        return
    copies = []
    for layer in held:
        copy = nn.Module()
        copy.weight = nn.Parameter(layer.weight.detach().clone())
        copies.append(copy)
    if share > 0:
        prune.global_unstructured(
            [(copy, "weight") for copy in copies], pruning_method=prune.L1Unstructured, amount=share
        )
        for copy, mask in zip(copies, held.values(), strict=True):
            mask.mask.copy_(copy.weight_mask)
    for mask in held.values():
        mask.epoch.fill_(epoch)


def release(model: nn.Module) -> None:
    """Takes the masks off; their zeros stay in the weights."""
    for layer in list(model.modules()):
        if _is_held(layer):
            parametrize.remove_parametrizations(layer, "weight")


def cubic(epoch: int, epochs: int, share: float) -> float:
    """The share in this epoch, 1 the first, of a gradual pruning that reaches the whole in the last but one.

    Zhu and Gupta 2017, To prune, or not to prune, equation 1, from no zeros on.
    """
    steps = max(1, epochs - 1)
    return share * (1 - (1 - min(epoch, steps) / steps) ** 3)


def sparsity(model: nn.Module) -> float:
    """Share of zeros in the weights of all linear layers."""
    weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)]
    return sum(int((each == 0).sum()) for each in weights) / max(1, sum(each.numel() for each in weights))


def _is_held(layer: nn.Module) -> bool:
    return parametrize.is_parametrized(layer, "weight") and isinstance(layer.parametrizations.weight[0], Masked)
