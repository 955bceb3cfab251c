"""The job that trains a recommender, measures it, stores it and lets it into use if it ranks no worse."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from functools import partial
from typing import Any

from torch import Tensor

from broker.context import Context
from broker.errors import JobError
from db.artifact import Model
from db.recommend import MODEL
from jobs.recommend import artifact, evaluate
from jobs.recommend.baselines import Popularity
from jobs.recommend.candidate import make
from jobs.recommend.data import DataError, Dataset
from jobs.recommend.described import described
from jobs.recommend.evaluate import METRIC
from jobs.recommend.fit import QUICK, Recipe, prefer
from jobs.recommend.histories import leave_one_out
from jobs.recommend.intake import dataset
from jobs.recommend.params import Train
from jobs.recommend.promotion import judge
from jobs.training import report
from jobs.training.device import resolve
from jobs.training.memory import batcher
from jobs.training.publish import earlier, in_use, publish, result


def recipe_of(params: Train) -> Recipe:
    """The preset with what the parameters say otherwise."""
    preset = QUICK if params.preset == "quick" else Recipe()
    given = {field.name: value for field in fields(Recipe) if (value := getattr(params, field.name, None)) is not None}
    network = "sasrec" if params.model == "blend" else params.model
    return replace(prefer(replace(preset, architecture=network)), **given)


def train(ctx: Context, params: Train) -> dict[str, Any]:
    started = time.perf_counter()
    if done := earlier(ctx):
        return _said(done)
    ctx.progress(0, 1, stage="read", message=params.data)
    data = dataset(ctx, params)
    split, recipe = leave_one_out(data.histories), recipe_of(params)
    if not (split.test >= 0).any():
        raise JobError(f"{data.name}: no user has three items or more, so no model can be measured: give more data")

    candidate = make(
        split, recipe, params.settings(), resolve(ctx.device), ctx, mix=params.model == "blend",
        networks=params.networks, second=params.second, described=_described(ctx, data) if recipe.joint else None,
    )  # fmt: skip
    fitted = candidate.fitted

    ctx.progress(0, 2, stage="measure")
    tested = candidate.knowing(split.before_test())
    metrics = {
        "test": evaluate.on_test(evaluate.scorer(tested, batcher=partial(batcher, ctx)), split, recipe.seed),
        "popularity": evaluate.on_test(Popularity.fit(split.before_test()), split, recipe.seed),
    }
    over = in_use(ctx, MODEL)
    judged = judge(ctx, candidate.ranker, split, over)
    metrics |= judged.metrics
    ctx.progress(1, 2, stage="store")
    facts = {"metric": METRIC, "best_epoch": fitted.best_epoch}
    lineage = {
        "remark": judged.remark,
        "report": report.keep(ctx, fitted.record, f"{recipe.architecture} on {data.name}", facts),
    }
    with ctx.store.scratch() as folder:
        blended = candidate.blended(data.histories)
        artifact.save_model(folder, fitted, recipe, data, metrics, blended, candidate.joint)
        model = publish(
            ctx, folder, MODEL, MODEL, metrics,
            lineage=lineage, over=over, objection=judged.objection, promote=params.promote,
        )  # fmt: skip
        return _said(model) | {
            "epochs": len(fitted.history),
            "best_epoch": fitted.best_epoch,
            "joint": candidate.joint.facts if candidate.joint else None,
            "device": str(fitted.model.item.weight.device),
            "seconds": round(time.perf_counter() - started, 3),
        }


def _described(ctx: Context, data: Dataset) -> Tensor:
    try:
        return described(data.histories.items, data.catalogue, resolve(ctx.device))
    except DataError as error:
        raise JobError(str(error)) from None


def _said(model: Model) -> dict[str, Any]:
    return result(model) | {"remark": model.lineage.get("remark")}
