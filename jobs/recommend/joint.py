"""Two-stage training: a pretrained network, then network, text retriever and gate together, kept where that helps."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from jobs.recommend import batches
from jobs.recommend.fit import METRIC, Recipe, Recommending
from jobs.recommend.gate import Gated, Projected
from jobs.recommend.histories import Split
from jobs.recommend.model import Recommender
from jobs.recommend.stages import Stages
from jobs.training.engine import Fitted
from jobs.training.task import Batch

EARNED = 0.001  # of validation ndcg@10 that the second stage must bring: what is less is chance, and costs time


@dataclass(frozen=True)
class Joint:
    """What the second stage came to."""

    ranker: Gated | None  # None: it earned nothing, so its weight is 0 and the pretrained network stays
    fitted: Fitted  # the network in use, with its training
    facts: dict[str, Any]  # both stages' validation, the gate's weight for texts, and what was decided


class Joining(Recommending):
    """The joint stage: all weights go on being learned, from those of the pretrained network."""

    def __init__(self, split: Split, recipe: Recipe, pretrained: Recommender, described: Tensor) -> None:
        super().__init__(split, recipe, pretrained)
        self._only_last = False
        self._described = hashlib.sha256(described.numpy().tobytes()).hexdigest()
        torch.manual_seed(recipe.seed)
        texts = Projected(described, recipe.dim)
        self.model = Gated(copy.deepcopy(pretrained), texts)
        self.name = self.model.name

    def fingerprint(self) -> str:
        return f"joint {super().fingerprint()} {self._described}"

    def blocks(self) -> list[nn.Module]:
        return list(cast(Gated, self.model).network.blocks)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        gated, given = cast(Gated, model), cast(batches.Batch, batch)
        hidden = gated.network.encode(given.rows).flatten(0, 1)[given.place]  # (T, D)
        return self._loss.of(gated.vectors(), None, gated.users(hidden), given)


def join(stages: Stages, split: Split, recipe: Recipe, first: Fitted, described: Tensor) -> Joint:
    """`recipe.joint` epochs at a quarter of the rate."""
    task = Joining(split, recipe, cast(Recommender, first.model), described)
    second = stages.fit("joint", task, replace(recipe.plan, epochs=recipe.joint, rate=recipe.rate / 4))
    gated = cast(Gated, second.model).fixed()
    gain = second.best[METRIC] - first.best[METRIC]
    known = [split.train[user] for user in range(min(1000, len(split.train))) if len(split.train[user])]
    facts = {
        "pretrained": first.best[METRIC],
        "joint": second.best[METRIC],
        "text_share": round(gated.share(known), 4),  # the gate's mean weight
        "kept": gain >= EARNED,
    }
    if gain >= EARNED:
        return Joint(gated, replace(second, model=gated.network), facts)
    said = f"the joint stage brought {gain:+.4f} {METRIC} on validation, less than {EARNED}: its weight is 0"
    return Joint(None, first, facts | {"why": said})
