"""The fixed trainings that benchmarks.training measures its options on."""

from __future__ import annotations

from dataclasses import replace

from jobs.recommend import data
from jobs.recommend.fit import Recipe, Recommending
from jobs.recommend.histories import leave_one_out
from jobs.training.task import Plan, Task


def recommender(seed: int) -> tuple[Task, Plan]:
    """SASRec on MovieLens-100K, the default recipe without early stopping; its metric is validation ndcg@10."""
    recipe = replace(Recipe(), seed=seed)
    return Recommending(leave_one_out(data.load(data.ML_100K).histories), recipe), replace(recipe.plan, patience=None)
