"""Ranking metrics and measuring against values worked out by hand."""

import math

import numpy as np
import pytest

from jobs.recommend import evaluate, metrics
from jobs.recommend.baselines import ItemKnn, Popularity
from jobs.recommend.histories import from_sequences, leave_one_out
from tests.unit.recommend.synthetic import histories

NAMES = ["a", "b", "c", "d"]


def test_a_rank_counts_the_better_unseen_items_and_half_of_the_equal_ones() -> None:
    scores = np.array([[9.0, 1.0, 5.0, 7.0, 5.0]])
    seen = np.array([[True, False, False, False, False]])

    assert metrics.ranks(scores, np.array([2]), seen).tolist() == [2.5]  # 7 above, the other 5 equal, 9 seen
    assert metrics.ranks(scores, np.array([2])).tolist() == [3.5]
    assert metrics.ranks(scores, np.array([1]), seen).tolist() == [4]


def test_the_summary_equals_the_values_worked_out_by_hand() -> None:
    values = metrics.summary(np.array([1, 4, 7, 40]))

    assert values["hit@5"] == 0.5
    assert values["hit@10"] == 0.75
    assert values["ndcg@5"] == pytest.approx((1 + 1 / math.log2(5)) / 4)
    assert values["ndcg@10"] == pytest.approx((1 + 1 / math.log2(5) + 1 / 3) / 4)
    assert values["mrr"] == pytest.approx((1 + 1 / 4 + 1 / 7 + 1 / 40) / 4)


def test_sampling_all_negatives_gives_the_full_ranking() -> None:
    random = np.random.default_rng(0)
    scores, targets = random.random((20, 30)), np.zeros(20, dtype=np.int64)
    seen = (random.random((20, 30)) < 0.2) & (np.arange(30) > 0)

    drawn = metrics.draw(seen, targets, random, negatives=100)

    assert metrics.ranks(scores, targets, seen).tolist() == metrics.sampled_ranks(scores, targets, drawn).tolist()


def test_negatives_are_drawn_once_each_unseen_and_as_often_as_they_are_popular() -> None:
    random = np.random.default_rng(0)
    seen = np.zeros((4000, 6), dtype=bool)
    seen[:, 0] = True
    targets = np.ones(4000, dtype=np.int64)

    drawn = metrics.draw(seen, targets, random, popularity=np.array([5, 5, 1, 3, 0, 4]), negatives=2)

    assert all(len({*row}) == 2 for row in drawn.tolist())
    assert {*drawn.ravel().tolist()} == {2, 3, 5}
    pairs = {2: (3 / 8) * (1 / 5) + (4 / 8) * (1 / 4) + 1 / 8}  # of two draws without replacement, item 2 in one
    assert (drawn == 2).any(axis=1).mean() == pytest.approx(pairs[2], abs=0.02)
    assert (metrics.draw(seen, targets, random, negatives=5) >= 0).sum(axis=1).tolist() == [
        4
    ] * 4000  # there are no more


def test_constant_scores_are_worth_chance() -> None:
    assert metrics.ranks(np.zeros((1, 101)), np.array([5])).tolist() == [51]


def test_the_validation_item_is_known_and_filtered_when_the_test_item_is_ranked() -> None:
    split = leave_one_out(from_sequences([[0, 1, 2]], NAMES))

    def scorer(known):  # type: ignore[no-untyped-def]
        assert [list(row) for row in known] == [[0, 1]]
        return np.array([[9.0, 9.0, 5.0, 1.0]])  # only seen items are above the target

    assert evaluate.on_test(scorer, split)["hit@5"] == 1
    assert evaluate.on_test(scorer, split)["mrr"] == 1
    unfiltered = evaluate.measure(scorer, split.before_test(), split.test, ("unfiltered",))
    assert unfiltered.summary("unfiltered")["mrr"] == pytest.approx(1 / 3)


def test_measuring_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    split = leave_one_out(histories())
    ranker = ItemKnn.fit(split.train)
    whole = evaluate.measure(ranker, split.train, split.validation, evaluate.PROTOCOLS, lists=True)

    monkeypatch.setattr(evaluate, "_SCORES", 7 * ranker.items)
    parts = evaluate.measure(ranker, split.train, split.validation, evaluate.PROTOCOLS, lists=True)

    assert parts.lists == whole.lists
    for name in evaluate.PROTOCOLS:
        assert parts.by_protocol[name].tolist() == whole.by_protocol[name].tolist()


def test_lists_are_described_by_coverage_novelty_and_popularity() -> None:
    known = from_sequences([[0, 1], [0, 2], [0], [0]], [*NAMES, "e"])
    held = np.array([-1, -1, 1, 2])

    described = evaluate.measure(Popularity.fit(known), known, held, lists=True).lists

    assert described["coverage@10"] == 1  # lists of ten hold all five items, with those seen at the end
    assert described["popularity@10"] == pytest.approx((4 + 1 + 1) / 5)


def test_the_interval_of_a_difference_is_that_of_the_same_users() -> None:
    split = leave_one_out(histories())
    one, other = (
        evaluate.measure(ranker, split.train, split.validation)
        for ranker in (ItemKnn.fit(split.train), Popularity.fit(split.train))
    )

    found = evaluate.compare(one, other)

    assert found.low <= found.mean <= found.high
    assert found.mean == pytest.approx(one.summary()["ndcg@10"] - other.summary()["ndcg@10"])
    assert evaluate.compare(one, one).verdict == "no difference seen"
    assert evaluate.difference(np.array([1.0]), np.array([0.0])).verdict == "no difference seen"  # of one user
    with pytest.raises(ValueError, match="not the same: measure both anew"):
        evaluate.compare(one, evaluate.measure(lambda h: np.zeros((1, 40)), split.train, _only_first(split.test)))


def _only_first(held: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(held)) == 0, held, -1)


def test_nothing_to_measure_on_is_an_error() -> None:
    split = leave_one_out(from_sequences([[0, 1]], NAMES))

    with pytest.raises(ValueError, match="no user has three items or more"):
        evaluate.on_validation(Popularity.fit(split.train), split)
