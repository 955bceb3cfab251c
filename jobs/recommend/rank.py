"""Ranking for users who wait: their scores in one pass, then each one's own policy, with reasons; nothing is cached."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from sqlalchemy import select

from broker.context import Context
from broker.errors import JobError
from db.recommend import UserProfile
from jobs.recommend import cache, popular
from jobs.recommend.choose import choose
from jobs.recommend.features import count
from jobs.recommend.opened import Opened, Shelf, open_current
from jobs.recommend.params import Rank
from jobs.recommend.policy.filters import UnknownLabel
from jobs.recommend.precompute import Exhaustive
from jobs.recommend.why import shared
from jobs.training.memory import batcher

Array = np.ndarray[Any, Any]
NEAREST = 3  # items of the history that are named as a reason


def rank(ctx: Context, many: Sequence[Rank]) -> list[Any]:
    """For each the result, or the JobError that it alone is refused with."""
    try:
        opened = open_current(ctx)
    except JobError as error:  # nobody's own fault: that it is tried alone would change nothing
        return [error] * len(many)
    histories = _histories(ctx, many)
    known = [opened.known(history or ()) for history in histories]
    results: list[Any] = [None] * len(many)
    for place in (place for place in range(len(many)) if not len(known[place])):
        results[place] = _or_error(partial(_popular, ctx, many[place], histories[place]))

    def score(places: Sequence[int]) -> tuple[Sequence[int], Array]:
        return places, opened.loaded.ranker.scores([known[place] for place in places]).float().cpu().numpy()

    ranker = opened.loaded.ranker
    sizes = batcher(ctx, f"{ranker.name} scores", ranker.device)
    asked = [place for place in range(len(many)) if len(known[place])]
    for places, scores in sizes.run(score, asked, Exhaustive(ranker).most):
        for place, row in zip(places, scores, strict=True):
            history = histories[place] or []
            results[place] = _or_error(partial(_ranked, ctx, opened, many[place], row, known[place], history))
    return results


def _or_error(work: partial[dict[str, Any]]) -> Any:
    try:
        return work()
    except JobError as error:
        return error


def _histories(ctx: Context, many: Sequence[Rank]) -> list[list[str] | None]:
    """Given or stored; None for a user of whom there is none."""
    names = {each.username for each in many if each.item_ids is None}
    with ctx.session() as session:
        found = session.execute(
            select(UserProfile.username, UserProfile.item_ids).where(UserProfile.username.in_(names))
        )
        stored = {row.username: row.item_ids for row in found}
    return [stored.get(each.username) if each.item_ids is None else each.item_ids for each in many]


def _popular(ctx: Context, params: Rank, history: list[str] | None) -> dict[str, Any]:
    reason = cache.unknown(params.username) if history is None else cache.NOTHING_KNOWN.format(params.username)
    try:
        with ctx.session() as session:
            return popular.answer(session, params.username, params, params.top_k, reason, history or ())
    except UnknownLabel as error:
        raise JobError(str(error)) from None


def _ranked(
    ctx: Context, opened: Opened, params: Rank, scores: Array, known: Array, history: list[str]
) -> dict[str, Any]:
    chosen = choose(ctx, opened.shelf, scores, params, params.top_k, without=known, like=known.tolist())
    reasons = Reasons(opened.shelf, known)
    return {
        "username": params.username,
        "basis": "model",
        "reason": opened.said(known, history),
        "model_version": opened.version,
        "items": [
            {
                "item": opened.shelf.ids[item],
                "title": opened.shelf.titles[item],
                "score": round(float(scores[item]), 4),
                "why": reasons.of(item),
            }
            for item in chosen.tolist()
        ],
    }


class Reasons:
    """Why items of the model are for one user: what they share with the history, and what of it they are most like."""

    def __init__(self, shelf: Shelf, known: Array) -> None:
        self._shelf, self._known = shelf, known
        self._profile = count(shelf.features[item] for item in known.tolist())

    def of(self, item: int) -> dict[str, Any]:
        return {"shared": self.shared(self._shelf.features[item]), "like": self.like(self._shelf.unit[item], item)}

    def shared(self, features: Any) -> list[dict[str, Any]]:
        return [each.json() for each in shared(features, self._profile, len(self._known))]

    def like(self, vector: Array, but: int | None = None) -> list[dict[str, Any]]:
        """The nearest items of the history to a vector of length one, without what is opposite to it."""
        near = self._shelf.unit[self._known] @ vector
        places = [place for place in np.argsort(-near, kind="stable").tolist() if self._known[place] != but]
        found = [(int(self._known[place]), float(near[place])) for place in places[:NEAREST]]
        return [
            {"item": self._shelf.ids[item], "title": self._shelf.titles[item], "likeness": round(likeness, 3)}
            for item, likeness in found
            if likeness > 0
        ]
