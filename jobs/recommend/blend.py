"""A blend: the scores of several rankers, brought to one scale for each user and added with weights.

The network knows the order of the newest items, transitions what often follows what, EASE^R the whole history: together
they rank better than any alone. `jobs.recommend.weights` learns the weights; what is of no use gets none. Scale: mean 0
and deviation 1 over the items that the user has not seen, counts on a logarithm; or the reciprocal rank (Cormack,
Clarke & Buettcher 2009).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from jobs.recommend.baselines import Ease, RecentEase, Transitions
from jobs.recommend.baselines.ease import MOST_ITEMS
from jobs.recommend.histories import Histories
from jobs.recommend.ranker import Array, Ranker, places

NETWORK, SECOND = "network", "second"
Counted = Transitions | Ease | RecentEase
COUNTED: dict[str, type[Counted]] = {"transitions": Transitions, "ease": Ease, "recent-ease": RecentEase}
# alone, transitions rank best with .3 and 5; beside parts that know the longer past, with these
_BESIDE: dict[str, Callable[[Histories], Counted]] = {
    "transitions": partial(Transitions.fit, target=0.5, half_life=2.0),
}
FLAT = 1e-5
FUSIONS = ("score", "reciprocal rank")
_NEAR = 60  # of reciprocal ranks, as in the paper: how little the very first ranks stand out


class Blend:
    """See jobs.recommend.ranker.Ranker. `parts` are all of one vocabulary, `weights` name each of them."""

    def __init__(self, parts: Mapping[str, Ranker], weights: Mapping[str, float], fusion: str = "score") -> None:
        if parts.keys() != weights.keys():
            raise ValueError(f"weights for {', '.join(weights)}, but the parts are {', '.join(parts)}: name the same")
        if fusion not in FUSIONS:
            raise ValueError(f"unknown fusion {fusion!r}: use {' or '.join(FUSIONS)}")
        order = sorted(parts, key=lambda name: name in COUNTED)
        self.parts, self.weights, self.fusion = {name: parts[name] for name in order}, dict(weights), fusion

    @property
    def _first(self) -> Ranker:
        return next(iter(self.parts.values()))

    @property
    def name(self) -> str:
        return "+".join(part.name for part in self.parts.values())

    @property
    def items(self) -> int:
        return self._first.items

    @property
    def device(self) -> torch.device:
        return self._first.device

    @torch.inference_mode()
    def scores(self, histories: Sequence[Array]) -> Tensor:
        seen = met(histories, self.items).to(self.device)
        total: Tensor | None = None
        for name, part in self.parts.items():  # the network first, in its precision
            scores, weight = scaled(self.fusion, name, part.scores(histories).to(self.device), seen), self.weights[name]
            total = scores.mul_(weight) if total is None else total.add_(scores, alpha=weight)
        assert total is not None
        return total

    def knowing(self, known: Histories) -> Blend:
        """The same weights, with the parts that only count fitted on `known`; the networks stay as they are."""
        parts = {name: _fit(name, known) if name in COUNTED else part for name, part in self.parts.items()}
        return Blend(parts, self.weights, self.fusion)

    def with_network(self, network: Ranker) -> Blend:
        """The same with another form of its network, such as one that runs faster; the other parts are shared."""
        return Blend(self.parts | {NETWORK: network}, self.weights, self.fusion) if NETWORK in self.parts else self


def counted(train: Histories) -> tuple[dict[str, Ranker], dict[str, str]]:
    """The parts that only count, fitted; and which were left out, with the reason."""
    too_many = f"{len(train.items)} items are more than {MOST_ITEMS}: its matrix would not fit"
    out = dict.fromkeys(("ease", "recent-ease"), too_many) if len(train.items) > MOST_ITEMS else {}
    return {name: _fit(name, train) for name in COUNTED if name not in out}, out


def _fit(name: str, train: Histories) -> Counted:
    return _BESIDE.get(name, COUNTED[name].fit)(train)


def knowing(ranker: Ranker, known: Histories) -> Ranker:
    """A ranker that is to be measured on what comes after `known`, so no part of it may have counted that."""
    return ranker.knowing(known) if isinstance(ranker, Blend) else ranker


def met(histories: Sequence[Array], items: int) -> Tensor:
    """(B, items) bool: what each user has seen."""
    seen = torch.zeros((len(histories), items), dtype=torch.bool)
    seen[places(histories)] = True
    return seen


def scaled(fusion: str, part: str, scores: Tensor, seen: Tensor) -> Tensor:
    """(B, items) on the scale in which parts are added; seen (B, items) bool."""
    if fusion == "reciprocal rank":
        return _reciprocal(scores, seen)
    scores = _standard(scores, seen)
    # a few counts stand so far out that they would outvote everything else (asinh does the same four times slower)
    return scores.abs().log1p_().copysign_(scores) if part in COUNTED else scores


def _standard(scores: Tensor, seen: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over each row's unseen items; a constant row becomes 0."""
    unseen = (~seen).sum(dim=1, keepdim=True).clamp_(min=1)
    open_ = scores.masked_fill(seen, 0)
    squares = torch.linalg.vector_norm(open_, dim=1, keepdim=True).square()
    return standard(scores, open_.sum(dim=1, keepdim=True), squares, unseen)


def standard(scores: Any, total: Any, squares: Any, count: Any) -> Any:
    """Scores on the scale on which those `count` of this sum and this sum of squares have mean 0 and deviation 1.

    Tensors of rows, with (B, 1) of the others; or numpy's, one row with its numbers. A constant row becomes 0.
    """
    mean = total / count
    spread = (squares / count - mean**2).clip(0) ** 0.5
    scores = scores - mean
    # a row of equal scores has a spread of rounding errors
    scores *= (spread > FLAT * abs(mean)) / spread.clip(1e-30)
    return scores


def _reciprocal(scores: Tensor, seen: Tensor) -> Tensor:
    """1 / (60 + rank), rank 1 the row's best unseen item; equal scores share the best of their ranks."""
    ordered = scores.masked_fill(seen, -torch.inf).sort(dim=1).values
    above = scores.shape[1] - torch.searchsorted(ordered, scores.contiguous(), right=True)
    return (_NEAR + 1 + above).to(scores.dtype).reciprocal_()
