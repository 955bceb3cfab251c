"""The weights of a blend, learned on validation: a conditional logit over what each user might have chosen next.

The likelihood of the validation items uses every user, where ndcg@10 hears of a quarter of them: on MovieLens-100K
weights searched by ndcg@10 gained .012 on validation and lost .006 on test; the likelihood's are the same on both, and
gain on both. Of large catalogues a uniform sample of alternatives is as good (McFadden 1978). Parts come in one by one
while each gains more than its cost by the Bayesian information criterion (Schwarz 1978), so few are left.
The parts must have been fitted on training items alone, or those that count are trusted for what they remember.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jobs.recommend import evaluate
from jobs.recommend.blend import FUSIONS, Blend, met, scaled
from jobs.recommend.histories import NONE, Split
from jobs.recommend.ranker import Array, Ranker
from jobs.training.memory import Batcher

ALTERNATIVES = 2048  # a user; all items where there are no more
_USERS = 10_000  # at most
_BATCH = 256
_STEPS, _NEAR = 50, 1e-6  # of Newton's method
_RIDGE = 1e-4  # so that weights stay finite where every user's choice is foreseen


@dataclass(frozen=True)
class Learned:
    """What was chosen, and the validation metrics of each part alone, chosen or not."""

    fusion: str
    weights: dict[str, float]  # of the chosen parts: of scores whose softmax is the probability of what comes next
    alone: dict[str, dict[str, float]]

    def blend(self, parts: Mapping[str, Ranker]) -> Blend:
        return Blend({name: parts[name] for name in self.weights}, self.weights, self.fusion)


def learn(
    parts: Mapping[str, Ranker],
    split: Split,
    batcher: Callable[[str, torch.device], Batcher] = Batcher,
    seed: int = 0,
) -> Learned:
    """Fusion and weights, by the likelihood of the validation items among the unseen.

    `parts` are fitted on `split.train`. Raises ValueError when no user has a validation item.
    """
    alone = {
        name: evaluate.measure(part, split.train, split.validation, batcher=batcher).summary()
        for name, part in parts.items()
    }
    choices = _Choices(parts, split, seed)
    found = [(*choices.select(fusion), fusion) for fusion in FUSIONS]
    _, weights, fusion = min(found, key=lambda each: each[0])
    return Learned(fusion, {name: round(weight, 4) for name, weight in weights.items()}, alone)


class _Choices:
    """What each user chose, the first column, among what could have been chosen."""

    def __init__(self, parts: Mapping[str, Ranker], split: Split, seed: int) -> None:
        random = np.random.default_rng(seed)
        users = np.flatnonzero(split.validation != NONE)
        if len(users) > _USERS:
            users = np.sort(random.choice(users, _USERS, replace=False))
        items = len(split.train.items)
        made: dict[tuple[str, str], list[Tensor]] = {(fusion, name): [] for fusion in FUSIONS for name in parts}
        closed = []
        for begin in range(0, len(users), _BATCH):
            chunk = users[begin : begin + _BATCH]
            histories, targets = [split.train[user] for user in chunk], split.validation[chunk]
            seen, columns = met(histories, items), torch.from_numpy(_columns(targets, items, random))
            shut = seen.gather(1, columns) | (columns == columns[:, :1])
            shut[:, 0] = False
            closed.append(shut)
            for name, part in parts.items():
                scores = part.scores(histories).cpu()
                for fusion in FUSIONS:
                    made[fusion, name].append(scaled(fusion, name, scores, seen).gather(1, columns).float())
        self._closed = torch.cat(closed)  # (U, C)
        self._scores = {key: torch.cat(rows) for key, rows in made.items()}  # (U, C) each
        self._names = tuple(parts)

    def select(self, fusion: str) -> tuple[float, dict[str, float]]:
        """Forward selection: the loss, with the cost of the parts, and their weights."""
        cost = math.log(len(self._closed)) / 2 / len(self._closed)
        best: tuple[float, dict[str, float]] = (math.inf, {})
        while True:
            tried = [self._fit(fusion, (*best[1], name)) for name in self._names if name not in best[1]]
            # a negative weight: the part only corrects another, which nobody would understand
            tried = [(loss + cost * len(weights), weights) for loss, weights in tried if min(weights.values()) > 0]
            if not tried or (step := min(tried, key=lambda each: each[0]))[0] >= best[0]:
                return best
            best = step

    def _fit(self, fusion: str, names: tuple[str, ...]) -> tuple[float, dict[str, float]]:
        """Newton's method: the loss is convex in a handful of weights, so a few steps reach its lowest point."""
        scores = torch.stack([self._scores[fusion, name] for name in names])  # (P, U, C)
        spread = scores.std(dim=(1, 2), keepdim=True).clamp_(min=1e-6)
        scores, weights, last = scores / spread, torch.zeros(len(names)), math.inf
        step = torch.zeros(len(names))
        for _ in range(_STEPS):
            logits = torch.tensordot(weights, scores, dims=1).masked_fill_(self._closed, -torch.inf)  # (U, C)
            loss = float((logits.logsumexp(dim=1) - logits[:, 0]).mean() + _RIDGE / 2 * weights.square().sum())
            if loss > last:
                step /= 2  # too far
                weights = weights + step
                continue
            if last - loss < _NEAR:
                break
            last = loss
            chance = logits.softmax(dim=1)
            mean = torch.einsum("puc,uc->pu", scores, chance)
            slope = (mean - scores[:, :, 0]).mean(dim=1) + _RIDGE * weights
            weighted = (scores * chance.sqrt()).flatten(1)
            curve = (weighted @ weighted.T - mean @ mean.T) / len(logits)  # (P, P)
            step = torch.linalg.solve(curve + _RIDGE * torch.eye(len(names)), slope)
            weights = weights - step
        return min(loss, last), dict(zip(names, (weights / spread.flatten()).tolist(), strict=True))


def _columns(targets: Array, items: int, random: np.random.Generator) -> Array:
    """(U, 1 + C) item indexes: each user's own, then all or a sample."""
    if items <= ALTERNATIVES:
        others = np.tile(np.arange(items), (len(targets), 1))
    else:
        others = random.integers(0, items, (len(targets), ALTERNATIVES))
    return np.concatenate([targets[:, None], others], axis=1)
