"""Pre-computing users: ids to the model's, one pass of the model, features of the profile, the caches.

Under the version in use, or under another one, whose lists then stand beside those that are served.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from broker.context import Context
from broker.errors import JobError
from db import recommend as rows
from db import recommend_stat, registry
from db.recommend import MODEL
from jobs.recommend import cache, incremental
from jobs.recommend.artifact import Loaded, resident
from jobs.recommend.features import Counts
from jobs.recommend.incremental import Mapped
from jobs.recommend.params import PretrainBatch, PretrainUser
from jobs.recommend.precompute import TopLists
from jobs.recommend.profile import profile_hash
from jobs.training.device import precision
from jobs.training.memory import batcher

STAGES = ("map items", "run model", "extract features", "write caches")


@dataclass(frozen=True)
class Chosen:
    """The version that is computed under."""

    version: int
    loaded: Loaded
    in_use: bool


@dataclass(frozen=True)
class Computed:
    """What was computed of some users; of those of whom the model knows nothing there is no list."""

    users: list[Mapped]
    recommendations: list[int]  # a user
    stored: int  # not those whose history changed meanwhile
    seconds: float  # of the model

    def counted(self) -> dict[str, int]:
        known = [user for user in self.users if len(user.known)]
        taken_in = sum(user.incremental for user in known)
        return {
            "computed": len(self.users),
            "incremental": taken_in,
            "rebuilt": len(known) - taken_in,
            "popular": len(self.users) - len(known),
        }


def pretrain_user(ctx: Context, params: PretrainUser) -> dict[str, Any]:
    if params.item_ids is not None:
        _take_history(ctx, params.username, params.item_ids, params.external_id)
    ctx.progress(0, len(STAGES), stage=STAGES[0])
    chosen = _model(ctx)
    found = _histories(ctx, [params.username], chosen)
    if not found:
        raise JobError(cache.unknown(params.username))
    if not params.force and _fresh(ctx, [params.username], params.top_k, chosen):
        return {"username": params.username, "cached": True, "update": "cached", "model_version": chosen.version}
    made = _compute(ctx, chosen, found, params.top_k, rebuild=params.force)
    (user,) = made.users
    return {
        "username": params.username,
        "cached": False,
        "update": "incremental" if user.incremental else "rebuilt",
        "basis": "model" if len(user.known) else "popular",
        "stored": bool(made.stored),  # false: the history changed meanwhile, and another job is for the new one
        "known_items": len(user.known),
        "items": user.total,
        "recommendations": made.recommendations[0],
        "model_version": chosen.version,
        "inference_seconds": round(made.seconds, 6),
    }


def pretrain_batch(ctx: Context, params: PretrainBatch) -> dict[str, Any]:
    started = time.perf_counter()
    ctx.progress(0, len(STAGES), stage=STAGES[0])
    chosen = _model(ctx, params.model_version)
    usernames = _whom(ctx, params)
    cached = set() if params.force else _fresh(ctx, usernames, params.top_k, chosen)
    todo = [username for username in usernames if username not in cached]
    found = _histories(ctx, todo, chosen)
    unknown = sorted(set(todo) - {each.username for each in found})
    made = _compute(ctx, chosen, found, params.top_k, rebuild=params.force)
    return {
        "users": len(usernames),
        **made.counted(),
        "cached": len(cached),
        "skipped": len(unknown),
        "reasons": [cache.unknown(name) for name in unknown[:20]],
        "known_items": sum(len(user.known) for user in made.users),
        "items": sum(user.total for user in made.users),
        "model_version": chosen.version,
        "inference_seconds": round(made.seconds, 6),
        "seconds": round(time.perf_counter() - started, 6),
    }


def _compute(ctx: Context, chosen: Chosen, histories: Sequence[rows.History], top_k: int, *, rebuild: bool) -> Computed:
    """The four stages. A user of whom the model knows nothing gets an empty row, so as not to be computed again."""
    loaded = chosen.loaded
    users = [incremental.mapped(each, loaded, rebuild=rebuild) for each in histories]
    known, nobody = [user for user in users if len(user.known)], [user for user in users if not len(user.known)]
    said = f"{sum(len(user.known) for user in users)} of {sum(user.total for user in users)} items known"
    ctx.progress(1, len(STAGES), stage=STAGES[1], message=said)
    lists: list[list[tuple[str, float]]] = []
    seconds = 0.0
    if known:
        tops, seconds = _run(ctx, loaded, known, top_k)
        named, scores = tops.lists(loaded.items), tops.score_lists()
        # pairs as tuples: 50,000 small lists made the garbage collector look at all of torch, half of a batch's time
        lists = [list(zip(*each, strict=True)) for each in zip(named, scores, strict=True)]
    ctx.progress(2, len(STAGES), stage=STAGES[2], message=said)
    counts = _counts(loaded, known)
    ctx.progress(3, len(STAGES), stage=STAGES[3], message=said)
    made = [
        _row(user, counted) | {"items": items, "basis": "model", "state": incremental.state(user, counted)}
        for user, counted, items in zip(known, counts, lists, strict=True)
    ]
    made += [_row(user, {}) | {"items": [], "basis": "popular", "state": None} for user in nobody]
    stored = _write(ctx, chosen, made, top_k, seconds, sum(user.incremental for user in known)) if made else 0
    ctx.progress(4, len(STAGES), stage=STAGES[3], message=said)
    return Computed(known + nobody, [len(row["items"]) for row in made], stored, seconds)


def _counts(loaded: Loaded, users: Sequence[Mapped]) -> list[Counts]:
    """Features counted, in one product for all whose history was rebuilt."""
    rebuilt = [user.known for user in users if user.counts is None]
    made = iter(loaded.table.counts(rebuilt) if rebuilt else [])
    return [next(made) if user.counts is None else user.counts for user in users]


def _row(user: Mapped, counts: Counts) -> dict[str, Any]:
    return {"username": user.username, "profile_hash": user.profile_hash, "features": counts}


def _whom(ctx: Context, params: PretrainBatch) -> list[str]:
    if params.usernames is not None:
        return list(dict.fromkeys(params.usernames))
    with ctx.session() as session:
        return rows.usernames(session, params.first or "", params.last or "")


def _take_history(ctx: Context, username: str, item_ids: Sequence[str], external_id: str | None) -> None:
    history = list(dict.fromkeys(item_ids))
    row = {"username": username, "external_id": external_id, "item_ids": history}
    with ctx.session() as session:
        rows.put_profiles(session, [row | {"profile_hash": profile_hash(history)}])


def _histories(ctx: Context, usernames: Sequence[str], chosen: Chosen) -> list[rows.History]:
    with ctx.session() as session:
        return rows.histories(session, usernames, chosen.version)


def _fresh(ctx: Context, usernames: Sequence[str], top_k: int, chosen: Chosen) -> set[str]:
    with ctx.session() as session:
        return rows.fresh(session, usernames, top_k, version=chosen.version)


def _model(ctx: Context, version: int | None = None) -> Chosen:
    """This version, or the one in use. Raises JobError when there is none."""
    with ctx.session() as session:
        serving = registry.current(session, MODEL)
        model = serving if version is None else registry.find(session, MODEL, version)
    if model is None:
        missing = "there is no recommender yet" if version is None else f"there is no recommender version {version}"
        raise JobError(f"{missing}: train one with recommend.train")
    return Chosen(model.version, resident(ctx, model), serving is not None and serving.version == model.version)


def _run(ctx: Context, loaded: Loaded, users: Sequence[Mapped], top_k: int) -> tuple[TopLists, float]:
    started = time.perf_counter()
    served, way = loaded.served, loaded.served.chosen
    tops = served.top_lists(
        [user.known for user in users],
        top_k,
        on_batch=lambda done, total: ctx.progress(1, len(STAGES), stage=STAGES[1], message=f"{done} of {total} users"),
        batcher=partial(batcher, ctx),
    )
    if served.chosen != way:
        ctx.note(serving=served.said())
    return tops, time.perf_counter() - started


def _write(
    ctx: Context, chosen: Chosen, made: Sequence[dict[str, Any]], top_k: int, seconds: float, taken_in: int
) -> int:
    """Postgres first, in one transaction; then Redis, whose entries are checked against Postgres at each read.

    Redis has one list a user: what is not in use yet is not put there, in front of the one that is.
    """
    device = chosen.loaded.ranker.device
    inferred = sum(row["basis"] == "model" for row in made)
    with ctx.session() as session:
        stored = rows.put_lists(session, made, model_version=chosen.version, top_k=top_k)
        recommend_stat.count_inference(session, str(device), precision(device), inferred, seconds, taken_in)
    if chosen.in_use:
        now = datetime.now(UTC)
        cache.put([{**row, "model_version": chosen.version, "top_k": top_k, "cached_at": now} for row in made])
    return stored
