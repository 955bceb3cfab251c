"""Networks whose linear layers are narrower than their configuration says, as pruning leaves attention behind."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def shape_like(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Gives linear layers the sizes of their weights, (outputs, inputs) by name, in place, before load_state_dict.

    Attention needs no more than that: its heads keep their size, and how many there are it sees from its projections.
    """
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for name, layer in linear.items():
        weight = weights.get(f"{name}.weight")
        if weight is not None and weight.shape != layer.weight.shape:
            model.set_submodule(name, empty(layer, *weight.shape))


def empty(layer: nn.Linear, outputs: int, inputs: int) -> nn.Linear:
    """One like it, of other sizes, with memory that was not set."""
    with torch.device("meta"):
        made = nn.Linear(inputs, outputs, bias=layer.bias is not None, dtype=layer.weight.dtype)
    return made.to_empty(device=layer.weight.device).train(layer.training)


def narrowed(layer: nn.Linear, kept: Tensor, dim: int) -> nn.Linear:
    """The layer with only the outputs (dim 0) or the inputs (dim 1) of these indexes."""
    weight = layer.weight.detach().index_select(dim, kept)
    made = empty(layer, *weight.shape)
    with torch.no_grad():
        made.weight.copy_(weight)
        if layer.bias is not None:
            made.bias.copy_(layer.bias[kept] if dim == 0 else layer.bias)
    return made
