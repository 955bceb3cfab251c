"""Scores of given titles for one user: the catalogue's own by the ranker, new ones by what is known of them.

A percentile is the share of the catalogue's items, without those that the user has seen, that score lower; a new item
is compared with what the same regression says of each of them without having seen it, so like with like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import func, select

from broker.context import Context
from broker.errors import JobError
from db import catalogue
from db.recommend import UserProfile
from jobs.recommend import cache
from jobs.recommend.features import Features
from jobs.recommend.opened import Opened, open_current
from jobs.recommend.params import ScoreItems, Title
from jobs.recommend.policy.mmr import unit
from jobs.recommend.rank import Reasons

Array = np.ndarray[Any, Any]
CHECKED = 200  # users on whose last event the guesses are checked


def score_items(ctx: Context, params: ScoreItems) -> dict[str, Any]:
    opened = open_current(ctx)
    with ctx.session() as session:
        user = session.get(UserProfile, params.username)
        rows = catalogue.items(session, [each.item_id for each in params.items])
        history = None if user is None else user.item_ids
    if history is None:
        raise JobError(cache.unknown(params.username))
    known = opened.known(history)
    if not len(known):
        raise JobError(f"model {opened.version} knows none of the {len(history)} items of user {params.username!r}")
    scorer = _Scorer(opened, known)
    answers = []
    for title in params.items:
        row = rows.get(title.item_id)
        features = title.features if title.features is not None else row.features if row else {}
        answers.append(scorer.of(title, features, title.title or (row.title if row else None)))
    scored = [each for each in answers if "error" not in each]
    scored.sort(key=lambda each: -each["percentile"])
    new = any(each["basis"] == "content" for each in scored)
    return {
        "username": params.username,
        "basis": "model",
        "reason": opened.said(known, history),
        "model_version": opened.version,
        "items": scored,
        "errors": [each for each in answers if "error" in each],
        "check": _check(ctx, opened) if new else None,
    }


class _Scorer:
    """One user's scores of whatever item."""

    def __init__(self, opened: Opened, known: Array) -> None:
        self._opened, self._reasons = opened, Reasons(opened.shelf, known)
        self._seen = set(known.tolist())
        self._open = np.setdiff1d(np.arange(opened.loaded.ranker.items), known)
        self._scores = opened.loaded.ranker.scores([known])[0].float().cpu().numpy()
        self._guesses: Array | None = None

    def of(self, title: Title, features: Features, name: str | None) -> dict[str, Any]:
        item = self._opened.loaded.index.get(title.item_id)
        if item is not None:
            return self._known(item)
        shelf = self._opened.shelf
        if not shelf.content.known(features) and not name:
            return {"item": title.item_id, "error": self._nothing(title.item_id, features)}
        if self._guesses is None:
            unseen = np.isin(shelf.content.fitted, self._open)
            self._guesses = shelf.content.left_out(self._scores[:, None])[unseen, 0]
        guess = float(shelf.content.scores(self._scores[:, None], [features], [name])[0, 0])
        vector = unit(shelf.content.vectors([features], [name]))[0]
        return {
            "item": title.item_id,
            "title": name or title.item_id,
            "basis": "content",
            "seen": False,
            "score": round(guess, 4),
            "percentile": _percentile(guess, self._guesses),
            "why": {"shared": self._reasons.shared(features), "like": self._reasons.like(vector)},
        }

    def _known(self, item: int) -> dict[str, Any]:
        shelf, score = self._opened.shelf, float(self._scores[item])
        return {
            "item": shelf.ids[item],
            "title": shelf.titles[item],
            "basis": "model",
            "seen": item in self._seen,
            "score": round(score, 4),
            "percentile": _percentile(score, self._scores[self._open]),
            "why": self._reasons.of(item),
        }

    @staticmethod
    def _nothing(item_id: str, features: Features) -> str:
        given = ", ".join(features) or "none"
        return (
            f"item {item_id!r} is new, has no title, and no other item shares its features (given: {given}): give "
            "genres, year or tags as in the catalogue"
        )


def _percentile(score: float, others: Array) -> float:
    """0 to 1; equals count half."""
    if not len(others):
        return 0.5
    return round(float(((others < score).sum() + (others == score).sum() / 2) / len(others)), 4)


def _check(ctx: Context, opened: Opened) -> dict[str, Any]:
    """How good the guesses are: where each of some users' latest item stands among the unseen ones, judged as if nobody
    had ever seen it, by the history before it. Random is .5.

    The model was trained on these events too, but what is judged here is the regression, which leaves the item out.
    """
    with ctx.session() as session:
        # md5 for a choice without order that is the same each time
        some = select(UserProfile.item_ids).where(UserProfile.item_count >= 2).order_by(func.md5(UserProfile.username))
        histories = [opened.known(item_ids) for item_ids in session.scalars(some.limit(CHECKED))]
    content = opened.shelf.content
    usable = [history for history in histories if len(history) >= 2 and history[-1] in content.fitted]
    if not usable:
        return {"users": 0, "percentile": None, "with_own_vector": None, "random": 0.5}
    scores = opened.loaded.ranker.scores([history[:-1] for history in usable]).float().cpu().numpy()
    guesses = np.full(scores.shape, np.nan)
    guesses[:, content.fitted] = content.left_out(scores.T).T
    return {
        "users": len(usable),
        "percentile": _mean_percentile(guesses, usable),
        "with_own_vector": _mean_percentile(scores, usable),
        "random": 0.5,
    }


def _mean_percentile(scores: Array, histories: Sequence[Array]) -> float:
    """Of each history's last item among those that are not in it."""
    found = []
    for row, history in zip(scores, histories, strict=True):
        others = np.delete(row, history)
        others = others[~np.isnan(others)]
        found.append(_percentile(float(row[history[-1]]), others))
    return round(float(np.mean(found)), 4)
