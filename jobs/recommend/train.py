"""The job that trains a recommender, measures it, stores it and lets it into use if it ranks no worse."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import structlog

from broker.context import Context
from broker.errors import JobError
from db.artifact import Model
from db.recommend import MODEL
from db.store import ArtifactError
from jobs.recommend import artifact, evaluate
from jobs.recommend.baselines import Popularity
from jobs.recommend.evaluate import Scorer
from jobs.recommend.fit import METRIC, QUICK, Recipe, fit
from jobs.recommend.histories import Histories, Split, from_sequences, leave_one_out
from jobs.recommend.intake import dataset
from jobs.recommend.params import Train
from jobs.training import report
from jobs.training.device import resolve
from jobs.training.memory import batcher
from jobs.training.publish import earlier, in_use, publish, result

log = structlog.get_logger()
SHARED = 0.5  # of the items: a model in use that knows fewer was trained on something else, and comparing says nothing


def recipe_of(params: Train) -> Recipe:
    """The preset with what the parameters say otherwise."""
    preset = QUICK if params.preset == "quick" else Recipe()
    if params.model == "bert4rec" and params.preset == "default":
        preset = replace(preset, epochs=20, patience=6)  # it learns from fewer positions an epoch
    given = {field.name: value for field in fields(Recipe) if (value := getattr(params, field.name, None)) is not None}
    return replace(preset, architecture=params.model, **given)


def train(ctx: Context, params: Train) -> dict[str, Any]:
    started = time.perf_counter()
    if done := earlier(ctx):
        return result(done)
    ctx.progress(0, 1, stage="read", message=params.data)
    data = dataset(ctx, params)
    split, recipe = leave_one_out(data.histories), recipe_of(params)
    if not (split.test >= 0).any():
        raise JobError(f"{data.name}: no user has three items or more, so no model can be measured: give more data")

    fitted = fit(split, recipe, resolve(ctx.device), params.settings(), ctx)

    ctx.progress(0, 2, stage="measure")
    metrics = {
        "validation": fitted.best,
        "test": evaluate.on_test(evaluate.scorer(fitted.model, batcher=partial(batcher, ctx)), split, recipe.seed),
        "popularity": evaluate.on_test(Popularity.fit(split.before_test()), split, recipe.seed),
    }
    over = in_use(ctx, MODEL)
    metrics |= {"in_use": _measure(ctx, over, split)} if over else {}
    ctx.progress(1, 2, stage="store")
    facts = {"metric": METRIC, "best_epoch": fitted.best_epoch}
    lineage = {"report": report.keep(ctx, fitted.record, f"{recipe.architecture} on {data.name}", facts)}
    with ctx.store.scratch() as folder:
        artifact.save_model(folder, fitted, recipe, data, metrics)
        said = _objection(metrics, over)
        model = publish(ctx, folder, MODEL, MODEL, metrics, lineage=lineage, over=over, objection=said)
        return result(model) | {
            "epochs": len(fitted.history),
            "best_epoch": fitted.best_epoch,
            "device": str(fitted.model.item.weight.device),
            "seconds": round(time.perf_counter() - started, 3),
        }


def _measure(ctx: Context, over: Model, split: Split) -> dict[str, float]:
    """The model in use on this validation; one that cannot be loaded any more scores nothing."""
    try:
        loaded = artifact.load_model(ctx.store.fetch(over.artifact_digest), resolve(ctx.device))
    except (ArtifactError, ValueError) as error:
        log.warning("model_in_use_unusable", version=over.version, reason=str(error))
        return {}
    known = sum(item in loaded.index for item in split.train.items) / len(split.train.items)
    return evaluate.on_validation(_translated(ctx, loaded, split.train.items), split) | {"known_items": round(known, 4)}


def _translated(ctx: Context, loaded: artifact.Loaded, items: tuple[str, ...]) -> Scorer:
    """A scorer over `items` of a model with its own vocabulary; what it does not know it ranks last."""
    own = np.array([loaded.index.get(item, -1) for item in items])
    score = evaluate.scorer(loaded.ranker, batcher=partial(batcher, ctx))

    def scores(histories: Histories) -> np.ndarray[Any, Any]:
        known = [own[history][own[history] >= 0] for history in histories]
        usable = [number for number, history in enumerate(known) if len(history)]
        result = np.full((len(histories), len(items)), -np.inf)
        if usable:
            made = score(from_sequences([known[number] for number in usable], loaded.items))
            result[np.ix_(np.array(usable), np.flatnonzero(own >= 0))] = made[:, own[own >= 0]]
        return result

    return scores


def _objection(metrics: dict[str, dict[str, float]], over: Model | None) -> str | None:
    """Why the new model must not come into use by itself; None when it may."""
    if over is None or not metrics["in_use"]:  # one that cannot be loaded serves nobody
        return None
    score, known = metrics["in_use"][METRIC], metrics["in_use"]["known_items"]
    if known < SHARED:
        return f"version {over.version} in use knows {known:.0%} of these items, so the two cannot be compared"
    if metrics["validation"][METRIC] < score:
        return f"version {over.version} in use ranks better on this validation ({METRIC} {score:.4f})"
    return None
