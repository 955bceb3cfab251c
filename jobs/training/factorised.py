"""Low-rank layers: linear layers as products of thin matrices, into that form and back, at once or as training goes on.

A layer of m outputs and n inputs costs m n multiplications a row, at rank r only (m + n) r. Measured on two cores, the
saving is 60 to 75 % of what that ratio says, so that half the rank of a square layer is a loss.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.training import lowrank, moments

PAYS = 0.4  # of m n / (m + n), the rank from which the thin matrices are no cheaper: what is left surely pays
ENERGY = 0.9  # that the progressive form must hold of a trained layer's: with less, accuracy is lost
MIN_SIZE = 128  # smaller sides: the calls cost more than the multiplications


class LowRankLinear(nn.Module):
    """y = U(S * (V x)) + b: (…, n) to (…, m) through r numbers.

    U (m, r) with the bias and V (r, n) are nn.Linear, so that torch's dynamic INT8 and exporters know them; S (r,) is a
    parameter. The published form has a diagonal D before U as well: it adds nothing that U cannot hold.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = inputs, outputs, rank
        self.V = nn.Linear(inputs, rank, bias=False)
        self.S = nn.Parameter(torch.ones(rank))
        self.U = nn.Linear(rank, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:  # S scales the m rows of U instead of each of the batch: 7 % of forward and backward
            return functional.linear(self.V(x), self.U.weight * self.S, self.U.bias)
        return cast(Tensor, self.U(self.V(x) * self.S))  # the module, which may be a quantized one by now

    @property
    def weight(self) -> Tensor:
        """(m, n) the product, for code that asks a linear layer for its weight; it has gradients."""
        return (self.U.weight * self.S) @ self.V.weight

    @property
    def bias(self) -> nn.Parameter | None:
        return self.U.bias

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, rank={self.rank}"


def factorise(
    model: nn.Module,
    *,
    ratio: float,
    min_size: int = MIN_SIZE,
    share: float = PAYS,
    energy: float | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, int]:
    """Replaces linear layers of the model in place by their best approximation of rank `ratio` times the smaller side.

    Left alone: layers with a side below `min_size`, those whose rank would not be below `share` of m n / (m + n),
    weights that are tied, frozen or all zero, subclasses of nn.Linear (attention's projection, whose weight it takes by
    itself), and whatever is no nn.Linear, as embeddings are. With `energy`, a layer gets the smallest rank that holds
    this share of its energy, and is left alone where that is above `ratio`: its spectrum is flat. An optimizer goes on
    with the new parameters in the place of the old and with its moments, see jobs/training/moments.py.
    Returns the ranks of the layers that it changed, by name.
    """
    changed = {}
    for name, layer in _free(model).items():
        m, n = layer.weight.shape
        rank = _rank(ratio, m, n)
        if min(m, n) < min_size or rank >= share * m * n / (m + n):
            continue
        weight = layer.weight.detach()
        if energy is None:
            found = lowrank.approximate(weight, rank, aims=2, generator=generator) if weight.any() else None
        else:
            found = lowrank.adaptive(weight, energy, ratio, aims=2, generator=generator)
        if found is None:
            continue
        thin = _thin(layer, found)
        if optimizer is not None:
            moments.carry(optimizer, layer.weight, thin.U.weight, thin.S, thin.V.weight)
        _put(model, name, thin)
        changed[name] = thin.rank
    return changed


def dense(model: nn.Module) -> list[str]:
    """Replaces all low-rank layers in place by nn.Linear with their product; the names of those it replaced."""
    names = list(ranks(model))
    for name in names:
        thin = model.get_submodule(name)
        layer = _like(nn.Linear, thin, thin.in_features, thin.out_features, thin.bias is not None)
        layer.weight = nn.Parameter(thin.weight.detach(), requires_grad=thin.S.requires_grad)
        layer.bias = thin.bias
        _put(model, name, layer)
    return names


def ranks(model: nn.Module) -> dict[str, int]:
    """The low-rank layers of the model and their ranks: what a checkpoint must remember to be loaded again."""
    return {name: layer.rank for name, layer in model.named_modules() if isinstance(layer, LowRankLinear)}


def shape_like(model: nn.Module, wanted: Mapping[str, int]) -> None:
    """Gives the model the form of these ranks in place, before load_state_dict; the weights in it mean nothing then.

    Raises ValueError for a name that is no linear layer of the model.
    """
    for name in ranks(model).keys() - wanted.keys():
        raise ValueError(f"layer {name!r} has low rank and should not: begin with an untrained model")
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear | LowRankLinear)}
    for name, rank in wanted.items():
        if name not in linear:
            raise ValueError(f"{name!r} is no linear layer: the ranks are those of another model")
        layer = linear[name]
        thin = _like(LowRankLinear, layer, layer.in_features, layer.out_features, rank, layer.bias is not None)
        thin.requires_grad_(next(layer.parameters()).requires_grad)
        _put(model, name, thin)


class Schedule:
    """When layers take their low-rank form, for the option `low_rank`; the engine calls `at_epoch` before each epoch.

    full: from the first epoch, wherever fewer multiplications are left. selective: the same, only where it surely pays.
    progressive: dense for the first third of the epochs, then low rank where the rank holds ENERGY of the trained
    layer. dynamic: twice the rank for the first third, 1.5 times for the second, as the published schedule falls from
    20 to 15 to 10 %.
    """

    def __init__(
        self,
        mode: Literal["off", "full", "progressive", "selective", "dynamic"],
        ratio: float,
        epochs: int,
        *,
        min_size: int = MIN_SIZE,
        seed: int = 42,
    ) -> None:
        self.mode, self.ratio, self.min_size, self.seed = mode, ratio, min_size, seed
        self.third = max(1, math.ceil(epochs / 3))

    def at_epoch(self, model: nn.Module, optimizer: torch.optim.Optimizer | None, epoch: int) -> dict[str, int] | None:
        """Brings the model into the form of this epoch, 1 the first; the ranks it changed, or None if it changed none.

        The same (seed, weights, epoch) give the same form, and a model that has it already is not touched: a resume may
        call it again. Groups of the optimizer keep their rates: the factors are scaled so that at the same rate
        their product moves as the dense weight would, see `_thin`. A weight decay pulls at each of the three factors.
        """
        stage = (epoch - 1) // self.third
        if self.mode == "off" or (self.mode == "progressive" and stage == 0):
            return None
        ratio = min(1.0, self.ratio * (2.0, 1.5, 1.0)[min(stage, 2)]) if self.mode == "dynamic" else self.ratio
        changed = {}
        for name, rank in ranks(model).items():
            layer = model.get_submodule(name)
            wanted = _rank(ratio, layer.out_features, layer.in_features)
            if self.mode == "dynamic" and wanted < rank:
                _narrow(layer, wanted, optimizer)
                changed[name] = wanted
        changed |= factorise(
            model,
            ratio=ratio,
            min_size=self.min_size,
            share=PAYS if self.mode == "selective" else 1.0,
            energy=ENERGY if self.mode == "progressive" else None,
            optimizer=optimizer,
            generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch),
        )
        return changed or None


def _rank(ratio: float, m: int, n: int) -> int:
    """A multiple of 8 from there on: rank 80 is multiplied faster than 76."""
    rank = ratio * min(m, n)
    return max(1, round(rank)) if rank < 8 else min(round(rank / 8) * 8, m, n)


def _free(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers by name whose weight is theirs alone."""
    owners = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    thin = [layer for layer in model.modules() if isinstance(layer, LowRankLinear)]
    inner = {id(part) for layer in thin for part in (layer.U, layer.V)}
    return {
        name: layer
        for name, layer in model.named_modules()
        if type(layer) is nn.Linear
        and layer.weight.requires_grad
        and owners[id(layer.weight)] == 1
        and id(layer) not in inner
    }


def _thin(layer: nn.Linear, found: lowrank.Factors) -> LowRankLinear:
    """The layer with these factors of its weight, and its own bias.

    An optimizer like Adam moves each entry of each factor by about its rate. U is scaled so that S V has, and V so that
    U S has, a mean square of 1/2 a column or row: then the product's entries move by about the rate too.
    """
    m, n = layer.weight.shape
    norm = found.s.norm() * math.sqrt(2)
    to_u, to_v = norm / math.sqrt(n), norm / math.sqrt(m)
    thin = _like(LowRankLinear, layer, n, m, len(found.s), layer.bias is not None)
    with torch.no_grad():
        thin.U.weight.copy_(found.U * to_u)
        thin.S.copy_(found.s / (to_u * to_v))
        thin.V.weight.copy_(found.Vt * to_v)
    thin.requires_grad_(layer.weight.requires_grad)
    thin.U.bias = layer.bias  # the same parameter: the optimizer knows it
    return thin


def _narrow(layer: LowRankLinear, rank: int, optimizer: torch.optim.Optimizer | None) -> None:
    """Keeps the components that contribute most, with their moments. They began as singular vectors, in their order."""
    with torch.no_grad():
        weights = layer.U.weight.norm(dim=0) * layer.S.abs() * layer.V.weight.norm(dim=1)  # (r,)
        kept = weights.topk(rank).indices.sort().values
    for owner, name, dim in ((layer.U, "weight", 1), (layer, "S", 0), (layer.V, "weight", 0)):
        old = getattr(owner, name)
        new = nn.Parameter(old.detach().index_select(dim, kept), requires_grad=old.requires_grad)
        if optimizer is not None:
            moments.select(optimizer, old, new, dim, kept)
        setattr(owner, name, new)
    layer.rank = layer.V.out_features = layer.U.in_features = rank


def _like(kind: type, layer: nn.Module, *sizes: int) -> nn.Module:
    """A new layer on the device, in the number format and the mode of another one; no random numbers are drawn."""
    with torch.device("meta"):
        made = kind(*sizes)
    weight = next(layer.parameters())
    return made.to(weight.dtype).to_empty(device=weight.device).train(layer.training)


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    if not name:
        raise ValueError("the model is a single linear layer: put it into a module, which can hold another one")
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
