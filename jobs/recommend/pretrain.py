"""Pre-computing users: ids to the model's, one pass of the model, features of the profile, the caches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from sqlalchemy import select

from broker.context import Context
from broker.errors import JobError
from db import recommend as rows
from db import registry
from db.recommend import MODEL, UserProfile
from jobs.recommend import cache
from jobs.recommend.artifact import Loaded, load_model
from jobs.recommend.params import PretrainBatch, PretrainUser
from jobs.recommend.precompute import TopLists, top_lists
from jobs.recommend.profile import Counts, profile_hash
from jobs.training.device import precision, resolve
from jobs.training.memory import batcher

STAGES = ("map items", "run model", "extract features", "write caches")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class InUse:
    version: int
    loaded: Loaded


@dataclass(frozen=True)
class Mapped:
    """A user's history as the model knows it."""

    username: str
    profile_hash: str
    known: Array  # item indexes, oldest first
    total: int  # items in the history, known or not


def pretrain_user(ctx: Context, params: PretrainUser) -> dict[str, Any]:
    if params.item_ids is not None:
        _take_history(ctx, params.username, params.item_ids, params.external_id)
    ctx.progress(0, len(STAGES), stage=STAGES[0])
    users = _read(ctx, [params.username])
    if not users:
        raise JobError(cache.unknown(params.username))
    in_use = _model(ctx)
    if not params.force and _fresh(ctx, [params.username], params.top_k):
        return {"username": params.username, "cached": True, "model_version": in_use.version}
    (mapped,) = _map(users, in_use.loaded)
    if not len(mapped.known):
        raise JobError(_nothing_known(mapped, in_use.version))
    said = f"{len(mapped.known)} of {mapped.total} items known"
    ctx.progress(1, len(STAGES), stage=STAGES[1], message=said)
    tops, seconds = _run(ctx, in_use.loaded, [mapped], params.top_k)
    ctx.progress(2, len(STAGES), stage=STAGES[2], message=said)
    counts = in_use.loaded.table.counts([mapped.known])
    ctx.progress(3, len(STAGES), stage=STAGES[3], message=said)
    stored = _write(ctx, in_use, [mapped], tops, counts, params.top_k, seconds)
    ctx.progress(4, len(STAGES), stage=STAGES[3], message=said)
    return {
        "username": params.username,
        "cached": False,
        "stored": bool(stored),  # false: the history changed meanwhile, and another job is for the new one
        "known_items": len(mapped.known),
        "items": mapped.total,
        "recommendations": int(tops.lengths[0]),
        "model_version": in_use.version,
        "inference_seconds": round(seconds, 6),
    }


def pretrain_batch(ctx: Context, params: PretrainBatch) -> dict[str, Any]:
    started = time.perf_counter()
    ctx.progress(0, len(STAGES), stage=STAGES[0])
    in_use = _model(ctx)
    usernames = list(dict.fromkeys(params.usernames))
    cached = set() if params.force else _fresh(ctx, usernames, params.top_k)
    todo = [username for username in usernames if username not in cached]
    everyone = _map(_read(ctx, todo), in_use.loaded)
    mapped = [user for user in everyone if len(user.known)]
    skipped = [_nothing_known(user, in_use.version) for user in everyone if not len(user.known)]
    skipped += [cache.unknown(name) for name in set(todo) - {user.username for user in everyone}]
    known, total = sum(len(user.known) for user in mapped), sum(user.total for user in mapped)
    said = f"{known} of {total} items known"
    seconds = 0.0
    if mapped:
        ctx.progress(1, len(STAGES), stage=STAGES[1], message=said)
        tops, seconds = _run(ctx, in_use.loaded, mapped, params.top_k)
        ctx.progress(2, len(STAGES), stage=STAGES[2], message=said)
        counts = in_use.loaded.table.counts([user.known for user in mapped])
        ctx.progress(3, len(STAGES), stage=STAGES[3], message=said)
        _write(ctx, in_use, mapped, tops, counts, params.top_k, seconds)
    ctx.progress(4, len(STAGES), stage=STAGES[3], message=said)
    return {
        "users": len(usernames),
        "computed": len(mapped),
        "cached": len(cached),
        "skipped": len(skipped),
        "reasons": sorted(skipped)[:20],
        "known_items": known,
        "items": total,
        "model_version": in_use.version,
        "inference_seconds": round(seconds, 6),
        "seconds": round(time.perf_counter() - started, 6),
    }


def _take_history(ctx: Context, username: str, item_ids: Sequence[str], external_id: str | None) -> None:
    history = list(dict.fromkeys(item_ids))
    row = {"username": username, "external_id": external_id, "item_ids": history}
    with ctx.session() as session:
        rows.put_profiles(session, [row | {"profile_hash": profile_hash(history)}])


def _read(ctx: Context, usernames: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    columns = (UserProfile.username, UserProfile.profile_hash, UserProfile.item_ids)
    with ctx.session() as session:
        found = session.execute(select(*columns).where(UserProfile.username.in_(usernames)))
        return [(username, hashed, item_ids) for username, hashed, item_ids in found]


def _fresh(ctx: Context, usernames: Sequence[str], top_k: int) -> set[str]:
    with ctx.session() as session:
        return rows.fresh(session, usernames, top_k)


def _model(ctx: Context) -> InUse:
    with ctx.session() as session:
        model = registry.current(session, MODEL)
    if model is None:
        raise JobError("there is no recommender yet: train one with recommend.train")
    device = resolve(ctx.device)
    digest = model.artifact_digest
    return InUse(model.version, ctx.models.get(digest, lambda: load_model(ctx.store.fetch(digest), device)))


def _map(users: Sequence[tuple[str, str, list[str]]], loaded: Loaded) -> list[Mapped]:
    index = loaded.index
    return [
        Mapped(
            username,
            hashed,
            np.array([index[item] for item in dict.fromkeys(ids) if item in index], dtype=np.int64),
            len(ids),
        )
        for username, hashed, ids in users
    ]


def _nothing_known(user: Mapped, version: int) -> str:
    if not user.total:
        return f"user {user.username!r} has an empty history: import one or pass item_ids"
    said = f"user {user.username!r}: model {version} knows none of the {user.total} items"
    return f"{said}: train on data that has them, or go back with `gristmill models promote`"


def _run(ctx: Context, loaded: Loaded, users: Sequence[Mapped], top_k: int) -> tuple[TopLists, float]:
    started = time.perf_counter()
    tops = top_lists(
        loaded.ranker,
        [user.known for user in users],
        top_k,
        on_batch=lambda done, total: ctx.progress(1, len(STAGES), stage=STAGES[1], message=f"{done} of {total} users"),
        batcher=partial(batcher, ctx),
    )
    return tops, time.perf_counter() - started


def _write(
    ctx: Context,
    in_use: InUse,
    users: Sequence[Mapped],
    tops: TopLists,
    counts: Sequence[Counts],
    top_k: int,
    seconds: float,
) -> int:
    """Postgres first, in one transaction; then Redis, whose entries are checked against Postgres at each read."""
    items, scores = tops.lists(in_use.loaded.items), tops.score_lists()
    made = [
        {
            "username": user.username,
            "profile_hash": user.profile_hash,
            "features": counted,
            "items": [list(pair) for pair in zip(items[row], scores[row], strict=True)],
        }
        for row, (user, counted) in enumerate(zip(users, counts, strict=True))
    ]
    device = in_use.loaded.ranker.device
    with ctx.session() as session:
        stored = rows.put_lists(session, made, model_version=in_use.version, top_k=top_k)
        rows.count_inference(session, str(device), precision(device), len(users), seconds)
    now = datetime.now(UTC)
    cache.put([{**row, "model_version": in_use.version, "top_k": top_k, "cached_at": now} for row in made])
    return stored
