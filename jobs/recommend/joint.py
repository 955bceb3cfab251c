"""Two-stage training: a pretrained network, then network, text retriever and gate together, kept where that helps."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from jobs.recommend import batches, evaluate
from jobs.recommend.evaluate import METRIC
from jobs.recommend.fit import Recipe, Recommending
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

    ranker: Gated | None  # None: the texts earned nothing, so their weight is 0 and the better plain network is left
    fitted: Fitted  # the network in use, with its training
    facts: dict[str, Any]  # validation of both stages, the gate's weight for texts, and what was decided


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
    known = [split.train[user] for user in range(min(1000, len(split.train))) if len(split.train[user])]
    # without the texts but with as much training: what the texts themselves bring
    bare = evaluate.on_validation(gated.network, split)
    facts = {
        "pretrained": first.best[METRIC],
        "joint": second.best[METRIC],
        "joint_without_texts": bare[METRIC],
        "text_share": round(gated.share(known), 4),  # the gate's mean weight
    }
    plain = max(first.best[METRIC], bare[METRIC])
    gain = second.best[METRIC] - plain
    if gain >= EARNED:
        return Joint(gated, replace(second, model=gated.network), facts | {"kept": True})
    said = f"titles and features brought {gain:+.4f} {METRIC} on validation, less than {EARNED}: their weight is 0"
    facts |= {"kept": False, "why": said}
    if bare[METRIC] < first.best[METRIC] + EARNED:
        return Joint(None, first, facts)
    history = [*second.history]
    history[second.best_epoch - 1] = history[second.best_epoch - 1] | bare
    return Joint(None, replace(second, model=gated.network, history=history), facts)
