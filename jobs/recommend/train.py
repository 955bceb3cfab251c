"""The job that trains a recommender, measures it, stores it and lets it into use if it ranks no worse."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from broker.context import Context
from broker.errors import JobError
from db import registry
from db.artifact import Model
from db.recommend import MODEL
from db.store import ArtifactError
from jobs.recommend import artifact, evaluate
from jobs.recommend.baselines import Scorer, popularity
from jobs.recommend.fit import METRIC, QUICK, Recipe, fit
from jobs.recommend.histories import Histories, Split, from_sequences, leave_one_out
from jobs.recommend.intake import dataset
from jobs.recommend.tasks import Train
from jobs.training import report
from jobs.training.device import resolve
from jobs.training.memory import batcher

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
    with ctx.session() as session:
        if done := registry.of_job(session, ctx.job_id):  # the attempt before this one died after it had registered
            return _result(done)
    ctx.progress(0, 1, stage="read", message=params.data)
    data = dataset(ctx, params)
    split, recipe = leave_one_out(data.histories), recipe_of(params)
    if not (split.test >= 0).any():
        raise JobError(f"{data.name}: no user has three items or more, so no model can be measured: give more data")

    fitted = fit(split, recipe, resolve(ctx.device), params.settings(), ctx)

    ctx.progress(0, 2, stage="measure")
    metrics = {
        "validation": fitted.best,
        "test": evaluate.on_test(evaluate.network(fitted.model, batcher=partial(batcher, ctx)), split, recipe.seed),
        "popularity": evaluate.on_test(popularity(split.before_test()), split, recipe.seed),
    }
    in_use = _in_use(ctx)
    metrics |= {"in_use": _measure(ctx, in_use, split)} if in_use else {}
    ctx.progress(1, 2, stage="store")
    with ctx.store.scratch() as folder:
        artifact.save_model(folder, fitted, recipe, data, metrics)
        return _register(ctx, folder, metrics, in_use) | {
            "epochs": len(fitted.history),
            "best_epoch": fitted.best_epoch,
            "report": report.keep(ctx, fitted.record, f"{recipe.architecture} on {data.name}"),
            "device": str(fitted.model.item.weight.device),
            "seconds": round(time.perf_counter() - started, 3),
        }


def _in_use(ctx: Context) -> Model | None:
    with ctx.session() as session:
        return registry.current(session, MODEL)


def _measure(ctx: Context, in_use: Model, split: Split) -> dict[str, float]:
    """The model in use on this validation; one that cannot be loaded any more scores nothing."""
    try:
        loaded = artifact.load_model(ctx.store.fetch(in_use.artifact_digest), resolve(ctx.device))
    except (ArtifactError, ValueError) as error:
        log.warning("model_in_use_unusable", version=in_use.version, reason=str(error))
        return {}
    known = sum(item in loaded.index for item in split.train.items) / len(split.train.items)
    return evaluate.on_validation(_translated(ctx, loaded, split.train.items), split) | {"known_items": round(known, 4)}


def _translated(ctx: Context, loaded: artifact.Loaded, items: tuple[str, ...]) -> Scorer:
    """A scorer over `items` of a model with its own vocabulary; what it does not know it ranks last."""
    own = np.array([loaded.index.get(item, -1) for item in items])
    score = evaluate.network(loaded.model, batcher=partial(batcher, ctx))

    def scores(histories: Histories) -> np.ndarray[Any, Any]:
        known = [own[history][own[history] >= 0] for history in histories]
        usable = [number for number, history in enumerate(known) if len(history)]
        result = np.full((len(histories), len(items)), -np.inf)
        if usable:
            made = score(from_sequences([known[number] for number in usable], loaded.items))
            result[np.ix_(np.array(usable), np.flatnonzero(own >= 0))] = made[:, own[own >= 0]]
        return result

    return scores


def _register(ctx: Context, folder: Path, metrics: dict[str, dict[str, float]], in_use: Model | None) -> dict[str, Any]:
    stored = ctx.store.put(folder)
    note = _objection(metrics, in_use)
    with ctx.session() as session:
        registry.record(session, stored, MODEL, ctx.job_id)
        model = registry.add(
            session,
            MODEL,
            stored.digest,
            metrics,
            {"compared_with_version": in_use.version if in_use else None, "note": note},
            ctx.job_id,
            promote_over=-1 if note else (in_use.version if in_use else None),
        )
    # A clean-up may have deleted the same content between `put` and the commit that now protects it.
    if not ctx.store.exists(stored.digest):
        ctx.store.put(folder)
    return _result(model)


def _objection(metrics: dict[str, dict[str, float]], in_use: Model | None) -> str | None:
    """Why the new model must not come into use by itself; None when it may."""
    if in_use is None or not metrics["in_use"]:  # one that cannot be loaded serves nobody
        return None
    score, known = metrics["in_use"][METRIC], metrics["in_use"]["known_items"]
    if known < SHARED:
        said = f"version {in_use.version} in use knows {known:.0%} of these items, so the two cannot be compared"
    elif metrics["validation"][METRIC] < score:
        said = f"version {in_use.version} in use ranks better on this validation ({METRIC} {score:.4f})"
    else:
        return None
    return f"not taken into use: {said}; `gristmill models promote {MODEL} VERSION` does so all the same"


def _result(model: Model) -> dict[str, Any]:
    return {
        "version": model.version,
        "is_current": model.is_current,
        "note": model.lineage.get("note"),
        "artifact": model.artifact_digest,
        "metrics": model.metrics,
    }
