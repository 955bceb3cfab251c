"""Training a recommender: its recipe, its task for the engine, and the stages that a recipe asks for."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from broker.context import Context
from jobs.recommend import augment, batches, evaluate, start
from jobs.recommend.evaluate import METRIC
from jobs.recommend.histories import Split
from jobs.recommend.losses import Loss
from jobs.recommend.model import Recommender, Shape
from jobs.recommend.ranker import Ranker
from jobs.recommend.stages import Stages
from jobs.training import engine
from jobs.training.options import Acceleration
from jobs.training.task import Batch, Plan, Task


@dataclass(frozen=True)
class Recipe:
    """How to train. The default takes under a minute on one core for MovieLens-100K."""

    architecture: str = "sasrec"
    dim: int = 64
    blocks: int = 1
    heads: int = 1
    length: int = 50
    dropout: float = 0.3
    epochs: int = 20
    patience: int = 5  # epochs without a better validation ndcg@10
    batch: int = 64
    rate: float = 2e-3
    decay: float = 0.0
    masked: float = 0.3
    svd_start: bool = True
    loss: str = "auto"  # see jobs.recommend.losses.Loss, also for the next three
    negatives: int = 512
    calibration: float = 0.75
    smoothing: float = 0.0
    ahead: int = 1  # SASRec: how many of the next items are targets
    fading: float = 0.7  # weight of each of them against the one before
    ties: bool = True  # what happened at one time: in a new order each epoch, and together one target of SASRec
    crop: float = 0.0  # chance of each history in each epoch; see jobs.recommend.augment
    reorder: float = 0.0
    blank: float = 0.0  # SASRec: chance of a window that items of it are masked
    curriculum: int = 0  # epochs until the longest histories take part
    recent: int = 0  # BERT4Rec: epochs of a second stage that masks the last item alone, at a quarter of the rate
    joint: int = 0  # epochs of a second stage with the items' texts and features, see jobs.recommend.joint
    seed: int = 42

    @property
    def objective(self) -> Loss:
        return Loss(self.loss, self.negatives, self.calibration, self.smoothing)

    @property
    def plan(self) -> Plan:
        return Plan(self.epochs, self.patience, self.batch, self.rate, self.decay, betas=(0.9, 0.98), seed=self.seed)


def prefer(recipe: Recipe) -> Recipe:
    """The recipe with the lengths that its architecture needs, where they are SASRec's."""
    if recipe.architecture == "bert4rec" and (recipe.epochs, recipe.patience) == (Recipe.epochs, Recipe.patience):
        return replace(recipe, patience=6)  # it learns from fewer positions an epoch
    return recipe


QUICK = Recipe(dim=16, blocks=1, length=20, epochs=2)  # seconds: to try the way, not the ranking
PLAIN = Acceleration(acceleration="off")


class Recommending(Task):
    """A recommender's training on the training items of a split; of `trained`, a second stage: the last items alone."""

    metric = METRIC

    def __init__(self, split: Split, recipe: Recipe, trained: nn.Module | None = None) -> None:
        self._split, self._recipe, self._only_last = split, recipe, trained is not None
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
        self._loss = recipe.objective.resolved(recipe.batch * recipe.length, self.shape.items)
        torch.manual_seed(recipe.seed)
        self.model = Recommender(self.shape) if trained is None else copy.deepcopy(trained)
        if recipe.svd_start and trained is None:
            with torch.no_grad():
                vectors = start.embeddings(split.train, recipe.dim, recipe.seed)
                self.model.item.weight[: self.shape.items] = torch.from_numpy(vectors)

    def fingerprint(self) -> str:
        return f"{self._recipe} {self._only_last} {self._split.train.fingerprint()}"

    def epoch(self, number: int) -> batches.Windows:
        recipe, random = self._recipe, np.random.default_rng((self._recipe.seed, number, 1))
        train = (
            augment.shortest(self._split.train, number / (recipe.curriculum + 1))
            if recipe.curriculum
            else (self._split.train)
        )
        train = augment.tied(train, random) if recipe.ties else train
        return batches.epoch(
            augment.changed(train, random, recipe.crop, recipe.reorder), self.shape, random, recipe.masked,
            blank=recipe.blank, ahead=recipe.ahead, fading=recipe.fading, ties=recipe.ties and train.times is not None,
            only_last=self._only_last,
        )  # fmt: skip

    def blocks(self) -> list[nn.Module]:
        return list(cast(Recommender, self.model).blocks)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        network, given = cast(Recommender, model), cast(batches.Batch, batch)
        hidden = network.encode(given.rows).flatten(0, 1)  # (B * L, D)
        return self._loss.of(network.item.weight, network.bias, hidden[given.place], given)

    def validate(self, model: nn.Module) -> dict[str, float]:
        return evaluate.on_validation(evaluate.scorer(cast(Ranker, model), batcher=self.batcher), self._split)


def fit(
    split: Split,
    recipe: Recipe,
    device: torch.device | None = None,
    options: Acceleration = PLAIN,
    ctx: Context | None = None,
) -> engine.Fitted:
    """See jobs.training.engine.fit; the fitted model is a Recommender."""
    return train(Stages(options, device or torch.device("cpu"), ctx), split, recipe)


def train(stages: Stages, split: Split, recipe: Recipe, name: str = "network") -> engine.Fitted:
    """The same as stages of a job, of which there may be others; the better of the recipe's one or two stages."""
    first = stages.fit(name, Recommending(split, recipe), recipe.plan)
    if not recipe.recent or recipe.architecture != "bert4rec":
        return first
    plan = replace(recipe.plan, epochs=recipe.recent, rate=recipe.rate / 4)
    second = stages.fit(f"{name}-recent", Recommending(split, recipe, first.model), plan)
    return max(first, second, key=lambda fitted: fitted.best[METRIC])
