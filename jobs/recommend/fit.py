"""Training a recommender: full-softmax cross entropy over all items, early stopping on validation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from broker.context import Context
from jobs.recommend import batches, evaluate, start
from jobs.recommend.histories import Split
from jobs.recommend.model import Recommender, Shape
from jobs.training import engine
from jobs.training.options import Acceleration
from jobs.training.task import Batch, Plan, Task

METRIC = "ndcg@10"  # on validation, full ranking


@dataclass(frozen=True)
class Recipe:
    """How to train. The default takes about 55 s on two cores for MovieLens-100K."""

    architecture: str = "sasrec"
    dim: int = 64
    blocks: int = 1
    heads: int = 1
    length: int = 50
    dropout: float = 0.3
    epochs: int = 12
    patience: int = 4  # epochs without a better validation ndcg@10
    batch: int = 64
    rate: float = 2e-3
    decay: float = 0.0
    masked: float = 0.3
    svd_start: bool = True
    seed: int = 42

    @property
    def plan(self) -> Plan:
        return Plan(self.epochs, self.patience, self.batch, self.rate, self.decay, betas=(0.9, 0.98), seed=self.seed)


def prefer(recipe: Recipe) -> Recipe:
    """The recipe with the lengths that its architecture needs, where they are SASRec's."""
    if recipe.architecture == "bert4rec" and (recipe.epochs, recipe.patience) == (Recipe.epochs, Recipe.patience):
        return replace(recipe, epochs=20, patience=6)  # it learns from fewer positions an epoch
    return recipe


QUICK = Recipe(dim=16, blocks=1, length=20, epochs=2)  # seconds: to try the way, not the ranking
PLAIN = Acceleration(acceleration="off")


class Recommending(Task):
    """A recommender's training on the training items of a split."""

    metric = METRIC

    def __init__(self, split: Split, recipe: Recipe) -> None:
        self._split, self._recipe = split, recipe
        self.shape = Shape(
            recipe.architecture,
            len(split.train.items),
            recipe.dim,
            recipe.blocks,
            recipe.heads,
            recipe.length,
            recipe.dropout,
        )
        self.name = str(self.shape)
        torch.manual_seed(recipe.seed)
        self.model = Recommender(self.shape)
        if recipe.svd_start:
            with torch.no_grad():
                vectors = start.embeddings(split.train, recipe.dim, recipe.seed)
                self.model.item.weight[: self.shape.items] = torch.from_numpy(vectors)

    def fingerprint(self) -> str:
        return f"{self.shape} masked={self._recipe.masked} {self._split.train.fingerprint()}"

    def epoch(self, number: int) -> batches.Windows:
        random = np.random.default_rng((self._recipe.seed, number, 1))
        return batches.epoch(self._split.train, self.shape, random, self._recipe.masked)

    def blocks(self) -> list[nn.Module]:
        return list(cast(Recommender, self.model).blocks)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return _loss(cast(Recommender, model), cast(batches.Batch, batch))

    def validate(self, model: nn.Module) -> dict[str, float]:
        return evaluate.on_validation(evaluate.scorer(cast(Recommender, model), batcher=self.batcher), self._split)


def fit(
    split: Split,
    recipe: Recipe,
    device: torch.device | None = None,
    options: Acceleration = PLAIN,
    ctx: Context | None = None,
) -> engine.Fitted:
    """See jobs.training.engine.fit; the fitted model is a Recommender."""
    return engine.fit(Recommending(split, recipe), recipe.plan, options, device or torch.device("cpu"), ctx)


def _loss(model: Recommender, batch: batches.Batch) -> Tensor:
    hidden = model.encode(batch.rows).flatten(0, 1)  # (B * L, D)
    weight = model.item.weight[:-1]  # with the row of `pad`, where padded entries of `known` fall
    bias = torch.nn.functional.pad(model.bias, (0, 1))
    logits = torch.nn.functional.linear(hidden[batch.place], weight, bias)  # (T, items + 1)
    closed = torch.cat([batch.known, torch.full_like(batch.known[:, :1], model.shape.pad)], dim=1)
    logits.scatter_(1, closed, -torch.inf)  # in place: a copy of the logits took 5 % of a step
    return torch.nn.functional.cross_entropy(logits, batch.target, reduction="sum")
