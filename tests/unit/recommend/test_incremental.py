"""Taking new items into a cached state: always what a rebuild of the whole history gives, and only when it may."""

from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.recommend import History
from jobs.recommend.artifact import Loaded
from jobs.recommend.baselines import Transitions
from jobs.recommend.data import Catalogue
from jobs.recommend.histories import from_sequences
from jobs.recommend.incremental import MOST_KEPT, MOST_NEW, Mapped, mapped, state
from jobs.recommend.precompute import top_lists
from jobs.recommend.profile import FeatureTable, profile_hash

ITEMS = tuple(f"i{n}" for n in range(12))
FEATURES: dict[str, Any] = {
    item: {"year": 1990 + n, "genres": [f"g{n % 3}", f"g{n % 4}"], "tags": []} for n, item in enumerate(ITEMS) if n % 5
}
RANKER = Transitions.fit(from_sequences([[0, 1, 2, 3, 4], [4, 5, 6, 2, 7], [8, 9, 10, 11, 0]], ITEMS))
MODEL = Loaded(
    cast(Any, None), RANKER, ITEMS, {item: n for n, item in enumerate(ITEMS)}, Catalogue({}, FEATURES),
    FeatureTable(ITEMS, FEATURES), {},
)  # fmt: skip

ids = st.lists(st.sampled_from([*ITEMS, "unknown", "ü", 'a"b']), max_size=25)


def history(item_ids: list[str], cached: Mapped | None = None, before: list[str] | None = None) -> History:
    """As the database gives it, with what a cached list of `before` keeps."""
    kept = state(cached, counts(cached)) if cached else None
    hashed = profile_hash(before) if before is not None else None
    return History("ann", profile_hash(item_ids), item_ids, hashed, kept)


def counts(user: Mapped) -> Any:
    return MODEL.table.counts([user.known])[0] if user.counts is None else user.counts


def everything(user: Mapped) -> Any:
    """What is stored of a user."""
    top = top_lists(MODEL.ranker, [user.known], 5) if len(user.known) else None
    listed = (top.lists(ITEMS), top.score_lists()) if top else None
    return user.profile_hash, user.known.tolist(), user.total, counts(user), state(user, counts(user)), listed


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(ids, min_size=2, max_size=5))
def test_however_a_history_grew_the_answer_is_that_of_a_rebuild(steps: list[list[str]]) -> None:
    whole = steps[0]
    user = mapped(history(whole), MODEL)
    for new in steps[1:]:
        before, whole = whole, whole + new
        found = history(whole, user, before)
        kept = deepcopy(found.state)
        user = mapped(found, MODEL)

        assert found.state == kept  # what was read may be read again
        assert user.incremental == (len(new) < MOST_NEW)
        assert everything(user) == everything(mapped(history(whole), MODEL))


@settings(max_examples=25, deadline=None)
@given(before=ids, now=ids)
def test_whatever_else_happened_to_a_history_it_is_rebuilt(before: list[str], now: list[str]) -> None:
    user = mapped(history(now, mapped(history(before), MODEL), before), MODEL)

    grew = now[: len(before)] == before and len(now) - len(before) < MOST_NEW
    assert user.incremental == grew
    assert everything(user) == everything(mapped(history(now), MODEL))


@pytest.mark.parametrize("change", ["no state", "forced", "another hash"])
def test_without_a_state_of_this_very_history_it_is_rebuilt(change: str) -> None:
    before = list(ITEMS[:3])
    found = history([*before, "i7"], mapped(history(before), MODEL), before)
    changed = {"no state": replace(found, state=None), "another hash": replace(found, cached_hash="x"), "forced": found}

    assert mapped(found, MODEL).incremental
    assert not mapped(changed[change], MODEL, rebuild=change == "forced").incremental


def test_a_history_too_long_to_be_kept_twice_has_no_state() -> None:
    user = mapped(history(list(ITEMS)), MODEL)
    long = replace(user, known=user.known.repeat(MOST_KEPT))

    assert state(user, {}) is not None
    assert state(long, {}) is None
