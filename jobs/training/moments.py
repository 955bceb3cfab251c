"""What an optimizer remembers of a weight, handed on to the factors that take its place.

For W = U diag(S) V and the gradient G of W, those of the factors are G V'S, diag(U'G V') and S U'G: linear in G, so
that first moments are mapped without loss. Second moments are mapped as variances of entries that do not correlate,
with the squares of the factors. An optimizer that remembers other things (quantised moments, say) begins anew.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FIRST = ("exp_avg", "momentum_buffer")
SECOND = ("exp_avg_sq", "max_exp_avg_sq")


def carry(
    optimizer: torch.optim.Optimizer, weight: nn.Parameter, u: nn.Parameter, s: nn.Parameter, v: nn.Parameter
) -> None:
    """Puts u (m, r), s (r,) and v (r, n) into the optimizer in the place of weight (m, n), in the same group."""
    old = _swap(optimizer, weight, [u, s, v])
    states: list[dict[str, Any]] = [{}, {}, {}]
    with torch.no_grad():
        for name, value in old.items():
            if _is_count(value):
                mapped = (_copy(value), _copy(value), _copy(value))
            elif name in FIRST and value is not None:
                mapped = _onto_factors(value, u, s, v)
            elif name in SECOND:
                mapped = _onto_factors(value, u.square(), s.square(), v.square())
            else:
                return
            for state, moment in zip(states, mapped, strict=True):
                state[name] = moment
    for parameter, state in zip((u, s, v), states, strict=True):
        if state:
            optimizer.state[parameter] = state


def select(optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter, dim: int, kept: Tensor) -> None:
    """Puts `new`, the entries `kept` of `old` along `dim`, into its place, with their share of its moments."""
    state = _swap(optimizer, old, [new])
    if state and all(_is_count(value) or value.shape == old.shape for value in state.values()):
        optimizer.state[new] = {
            name: value if _is_count(value) else value.index_select(dim, kept) for name, value in state.items()
        }


def _onto_factors(moment: Tensor, u: Tensor, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    right = moment @ v.T  # (m, r)
    return right * s, (u * right).sum(0), s[:, None] * (u.T @ moment)


def _swap(optimizer: torch.optim.Optimizer, old: nn.Parameter, new: list[nn.Parameter]) -> dict[str, Any]:
    """Replaces a parameter in its group; what it had as state, which is empty before the first step."""
    for group in optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            if parameter is old:
                group["params"][place : place + 1] = new
                return dict(optimizer.state.pop(old, {}))
    return {}


def _is_count(value: Any) -> bool:
    """Such as "step"."""
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.ndim == 0)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
