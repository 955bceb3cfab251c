"""The fixed trainings that benchmarks.training measures its options on."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.docstrings import docstrings
from jobs.recommend import data
from jobs.recommend.fit import Recipe, Recommending
from jobs.recommend.histories import leave_one_out
from jobs.text import encoder
from jobs.text.teacher import Teacher
from jobs.training.task import Plan, Task


def recommender(seed: int) -> tuple[Task, Plan]:
    """SASRec on MovieLens-100K, the default recipe without early stopping; its metric is validation ndcg@10."""
    recipe = replace(Recipe(), seed=seed)
    return Recommending(leave_one_out(data.load(data.ML_100K).histories), recipe), replace(recipe.plan, patience=None)


def text(seed: int) -> tuple[Task, Plan]:
    """MiniLM with the lower four of its six layers frozen, on texts of scipy's documentation; accuracy on dev."""
    data = docstrings(train=480)
    minilm = encoder.load(encoder.MINILM, data.train.texts)
    task = Teacher(data, minilm, freeze=4, max_length=128, seed=seed)
    return task, Plan(epochs=5, batch=32, rate=5e-4, decay=0.01, seed=seed)
