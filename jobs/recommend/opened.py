"""The recommender in use, for those who answer one question now: loaded, and beside it what its items are like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from broker.context import Context
from broker.errors import JobError
from db import registry
from db.recommend import MODEL
from db.store import ArtifactError, NoSpace
from jobs.recommend.artifact import Loaded, resident
from jobs.recommend.content import Content
from jobs.recommend.features import Facts, Features, facts
from jobs.recommend.policy.mmr import unit

Array = np.ndarray[Any, Any]


class Shelf:
    """The items of one model: made once, it stays resident beside the model."""

    def __init__(self, loaded: Loaded) -> None:
        self.ids = loaded.items
        self.features: list[Features] = [loaded.catalogue.features.get(item, {}) for item in self.ids]
        self.titles = [loaded.catalogue.titles.get(item, item) for item in self.ids]
        self.facts: list[Facts] = [facts(each) for each in self.features]
        self.genres = tuple(sorted({genre for each in self.facts for genre in each.genres}))
        self.tags = frozenset(tag for each in self.facts for tag in each.tags)
        self.vectors = vectors(loaded)  # (items, d)
        self.unit = unit(self.vectors)
        self.met: Array | None = None  # (items,) how many users have each, see jobs.recommend.similar
        self._content: Content | None = None

    @property
    def content(self) -> Content:
        """Fitted when it is first asked for. Raises JobError when the catalogue has nothing to learn from."""
        if self._content is None:
            if not any(self.features):
                raise JobError(
                    "the catalogue has no features, so nothing can be said of new items: import one that has"
                )
            self._content = Content.fit(self.vectors, self.features, self.titles)
        return self._content


@dataclass(frozen=True)
class Opened:
    version: int
    loaded: Loaded
    shelf: Shelf

    def known(self, item_ids: Sequence[str]) -> Array:
        """Item indexes of those that the model knows, each once, in this order."""
        return np.array(self.loaded.known(item_ids), dtype=np.int64)

    def said(self, known: Array, item_ids: Sequence[str]) -> str:
        """What a list stands on, in words."""
        return f"model {self.version}, from {len(known)} of the {len(set(item_ids))} items of the history"


def open_current(ctx: Context) -> Opened:
    """The version in use. Raises JobError when there is none, or when it cannot be opened."""
    with ctx.session() as session:
        model = registry.current(session, MODEL)
    if model is None:
        raise JobError("there is no recommender yet: train one with recommend.train")
    try:
        loaded = resident(ctx, model)
    except NoSpace:  # there may be room at another attempt
        raise
    except (ArtifactError, ValueError) as error:
        raise JobError(f"recommender version {model.version}: {error}") from error
    shelf = ctx.models.get(f"{model.artifact_digest} shelf", lambda: Shelf(loaded))
    return Opened(model.version, loaded, shelf)


def vectors(loaded: Loaded) -> Array:
    """(items, d) what the network has learned of its items."""
    weight = loaded.model.item.weight[: loaded.model.items]
    return weight.detach().float().cpu().numpy()
