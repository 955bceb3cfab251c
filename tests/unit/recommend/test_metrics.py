"""Ranking metrics and baselines against values worked out by hand."""

import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from jobs.recommend import evaluate, metrics
from jobs.recommend.baselines import BASELINES, ease, item_knn, popularity
from jobs.recommend.histories import from_sequences, leave_one_out
from tests.unit.recommend.synthetic import histories

NAMES = ["a", "b", "c", "d"]


def test_a_rank_counts_the_better_unseen_items_and_half_of_the_equal_ones() -> None:
    scores = np.array([[9.0, 1.0, 5.0, 7.0, 5.0]])
    seen = csr_matrix(np.array([[1, 0, 0, 0, 0]]))

    assert metrics.ranks(scores, seen, np.array([2])).tolist() == [2.5]  # 7 above, the other 5 equal, 9 seen
    assert metrics.ranks(scores, seen, np.array([1])).tolist() == [4]


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
    seen = csr_matrix((random.random((20, 30)) < 0.2) & (np.arange(30) > 0))

    full = metrics.ranks(scores, seen, targets)
    sampled = metrics.sampled_ranks(scores, seen, targets, random, negatives=100)

    assert full.tolist() == sampled.tolist()


def test_constant_scores_are_worth_chance() -> None:
    ranked = metrics.ranks(np.zeros((1, 101)), csr_matrix((1, 101)), np.array([5]))

    assert ranked.tolist() == [51]


def test_popularity_scores_are_the_counts() -> None:
    train = from_sequences([[0, 1], [1], [1, 2]], NAMES)

    assert popularity(train)(train)[0].tolist() == [1, 3, 1, 0]


def test_item_knn_scores_are_shrunk_cosines_of_the_other_items() -> None:
    train = from_sequences([[0, 1], [0, 1], [1, 2]], NAMES)
    cosine = 2 / (math.sqrt(2 * 3) + 10)

    scores = item_knn(train)(from_sequences([[0]], NAMES))

    assert scores[0] == pytest.approx([0, cosine, 0, 0])


def test_ease_solves_its_regression_with_a_zero_diagonal() -> None:
    train = from_sequences([[0, 1], [0, 1, 2], [2, 3], [1, 3]], NAMES)
    met = train.matrix().toarray().astype(float)
    others = met[:, 1:]
    by_hand = np.linalg.solve(others.T @ others + 2 * np.eye(3), others.T @ met[:, 0])  # item a from b, c, d

    scores = ease(train, ridge=2)(from_sequences([[1], [2], [3], [0]], NAMES))

    assert scores[:3, 0] == pytest.approx(by_hand)
    assert scores[3, 0] == 0


def test_the_validation_item_is_known_and_filtered_when_the_test_item_is_ranked() -> None:
    split = leave_one_out(from_sequences([[0, 1, 2]], NAMES))

    def scorer(known):  # type: ignore[no-untyped-def]
        assert [list(row) for row in known] == [[0, 1]]
        return np.array([[9.0, 9.0, 5.0, 1.0]])  # only seen items are above the target

    assert evaluate.on_test(scorer, split)["hit@5"] == 1
    assert evaluate.on_test(scorer, split)["mrr"] == 1


def test_measuring_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    split = leave_one_out(histories())
    scorer = BASELINES["item-knn"](split.train)
    whole = evaluate.on_test(scorer, split)

    monkeypatch.setattr(evaluate, "CHUNK", 7)

    assert evaluate.on_test(scorer, split) == pytest.approx(whole)


def test_nothing_to_measure_on_is_an_error() -> None:
    split = leave_one_out(from_sequences([[0, 1]], NAMES))

    with pytest.raises(ValueError, match="no user has three items or more"):
        evaluate.on_validation(popularity(split.train), split)
