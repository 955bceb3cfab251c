"""What a training comes to: a network, or a blend of networks and counts with weights learned on validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from broker.context import Context
from jobs.recommend import blend, weights
from jobs.recommend.artifact import Blended
from jobs.recommend.fit import Recipe, prefer, train
from jobs.recommend.histories import Histories, Split
from jobs.recommend.joint import Joint, join
from jobs.recommend.ranker import Ranker
from jobs.recommend.stages import Stages
from jobs.training.engine import Fitted
from jobs.training.memory import Batcher, batcher
from jobs.training.options import Acceleration


@dataclass(frozen=True)
class Candidate:
    """All its parts know the training items alone; `knowing` takes in what came after."""

    fitted: Fitted  # the network
    ranker: Ranker
    learned: weights.Learned | None = None  # of a blend
    left_out: dict[str, str] | None = None  # parts that were not tried, and why
    joint: Joint | None = None  # of the two-stage training

    def knowing(self, known: Histories) -> Ranker:
        return blend.knowing(self.ranker, known)

    def blended(self, known: Histories) -> Blended | None:
        """For the artifact; None where the network stands alone."""
        ranker = self.knowing(known)
        if self.learned is None or not isinstance(ranker, blend.Blend):
            return None
        return Blended(ranker, self.learned.alone, self.left_out or {})


def make(
    split: Split, recipe: Recipe, options: Acceleration, device: torch.device, ctx: Context | None = None,
    *, mix: bool = False, networks: int = 1, second: bool = False, described: Tensor | None = None,
) -> Candidate:  # fmt: skip
    """Train on a split's training items.

    mix: blend it with counts; with `networks` - 1 more of the same recipe, of the seeds after its own; and with a
    `second` kind of network, BERT4Rec. described (items, F): for `recipe.joint`.
    """
    stages = Stages(options, device, ctx)
    fitted = train(stages, split, recipe)
    joint = join(stages, split, recipe, fitted, described) if recipe.joint and described is not None else None
    fitted = joint.fitted if joint else fitted
    network: Ranker = joint.ranker if joint and joint.ranker else fitted.model
    if not mix:
        return Candidate(fitted, network, joint=joint)
    parts: dict[str, Ranker] = {blend.NETWORK: network}
    for number in range(1, networks):
        again = replace(recipe, seed=recipe.seed + number)
        parts[f"{blend.NETWORK}-{number + 1}"] = train(stages, split, again, f"network-{number + 1}").model
    if second:
        other = prefer(replace(recipe, architecture="bert4rec" if recipe.architecture == "sasrec" else "sasrec"))
        parts[blend.SECOND] = train(stages, split, other, "second").model
    sizes: Callable[[str, torch.device], Batcher] = partial(batcher, ctx) if ctx is not None else Batcher
    counted, left_out = blend.counted(split.train)
    learned = weights.learn(parts | counted, split, sizes, recipe.seed)
    return Candidate(fitted, learned.blend(parts | counted), learned, left_out, joint)
