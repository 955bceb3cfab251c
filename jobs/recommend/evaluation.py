"""The job that evaluates recommenders on a data set: all fitted, chosen and measured on one split, and the report."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np

from broker.context import Context
from broker.errors import JobError
from db.recommend import MODEL
from jobs.recommend import frozen, promotion
from jobs.recommend.contest import Contestants, Entry, Run, hold
from jobs.recommend.contest_page import Page, figures
from jobs.recommend.data import Dataset
from jobs.recommend.evaluate import FULL
from jobs.recommend.intake import dataset
from jobs.recommend.params import Evaluate
from jobs.training.device import resolve
from jobs.training.memory import batcher
from jobs.training.publish import in_use, keep_report
from jobs.training.tables import DataError

KIND = "evaluation"
SPLIT = "split.csv"
FEW = 100  # users, below whom intervals are so wide that nothing is decided


def evaluate(ctx: Context, params: Evaluate) -> dict[str, Any]:
    started = time.perf_counter()
    ctx.progress(0, 1, stage="read", message=params.data)
    data = dataset(ctx, params)
    try:
        split, said = frozen.split_of(data.histories, data.name, params.split)
    except DataError as error:
        raise JobError(str(error)) from None
    if not (split.test >= 0).any():
        raise JobError(f"{data.name}: no user has three items or more, so nothing can be held out: give more data")
    kept = frozen.freeze(split)
    contestants = Contestants(
        split, params.preset == "quick", params.users, params.settings(), resolve(ctx.device), ctx
    )  # fmt: skip
    seeds = range(params.seed, params.seed + params.seeds)
    others = [_in_use(ctx, contestants)] if params.in_use else []
    try:
        contest = hold(contestants, params.models, seeds, partial(_tell, ctx), others)
    except ValueError as error:
        raise JobError(f"no model can be measured on {data.name} ({error})") from None
    ctx.progress(0, 1, stage="report")
    facts = _facts(data, contestants.users, said, kept.sha256, params)
    page = Page(f"Recommenders on {data.name}", contest, facts, contest.pairs())
    with ctx.store.scratch() as folder:
        page.write(folder)
        kept.write(folder / SPLIT)
        digest = keep_report(ctx, folder, KIND, page.title)
    return {
        "report": digest,
        "chosen": contest.chosen.name,
        "verdict": page.verdict(),
        "models": {entry.name: figures(entry) for entry in contest.entries},
        "left_out": contest.left_out,
        "data": facts,
        "protocol": FULL,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _tell(ctx: Context, done: int, total: int, name: str) -> None:
    ctx.progress(done, total, stage="fit", message=name)


def _facts(data: Dataset, users: int, said: str, sha256: str, params: Evaluate) -> dict[str, Any]:
    histories = data.histories
    tied = None if data.times is None else frozen.tied(histories, data.times)
    size = f"{len(histories):,} users, {len(histories.items):,} items, {len(histories.flat):,} interactions"
    return {
        "data": f"{data.name}: {size}",
        "data_sha256": frozen.contents(histories),
        "split": f"{said}: last item test, the one before it validation",
        "split_sha256": sha256,
        "measured": f"{users:,} users" + (f": fewer than {FEW}, so intervals are wide" if users < FEW else ""),
        "ties": None if tied is None else f"{tied:.0%} of the last events are tied in time with the one before",
        "preset": params.preset,
        "seeds": f"{params.seed} to {params.seed + params.seeds - 1}" if params.seeds > 1 else str(params.seed),
    }


def _in_use(ctx: Context, contestants: Contestants) -> Entry:
    """The registered model in use; what it has counted it counts anew in what is known here."""
    over = in_use(ctx, MODEL)
    if over is None:
        raise JobError("no recommender is in use: train one with recommend.train, or leave in_use out")
    loaded = promotion.load(ctx, over)
    if loaded is None:
        raise JobError(f"version {over.version} in use cannot be loaded: train one again, or leave in_use out")
    sizes = partial(batcher, ctx)
    split = contestants.split
    known = float(np.mean([item in loaded.index for item in split.train.items]))
    run = Run(
        None,
        0.0,
        contestants.validated(promotion.translated(loaded, split.train, sizes)),
        contestants.measured(promotion.translated(loaded, split.before_test(), sizes)),
        f"version {over.version}, knows {known:.0%} of the items; it may have been trained on what is held out here",
    )
    return Entry(f"in use (version {over.version})", (run,))
