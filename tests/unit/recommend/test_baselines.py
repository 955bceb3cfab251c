"""The baselines against values worked out by hand, and what every ranker must keep."""

import math

import numpy as np
import pytest
import torch

from jobs.recommend import evaluate
from jobs.recommend.baselines import BASELINES, Bpr, Ease, ItemKnn, Popularity, RecentEase, Transitions, transitions
from jobs.recommend.histories import from_sequences, leave_one_out
from tests.unit.recommend.synthetic import histories

NAMES = ["a", "b", "c", "d"]


def test_popularity_scores_are_the_counts() -> None:
    train = from_sequences([[0, 1], [1], [1, 2]], NAMES)

    assert Popularity.fit(train).scores(list(train))[0].tolist() == [1, 3, 1, 0]


def test_item_knn_scores_are_shrunk_cosines_of_the_other_items() -> None:
    train = from_sequences([[0, 1], [0, 1], [1, 2]], NAMES)
    cosine = 2 / (math.sqrt(2 * 3) + 10)

    scores = ItemKnn.fit(train, shrink=10).scores([np.array([0])])

    assert scores[0].tolist() == pytest.approx([0, cosine, 0, 0])


def test_ease_solves_its_regression_with_a_zero_diagonal() -> None:
    train = from_sequences([[0, 1], [0, 1, 2], [2, 3], [1, 3]], NAMES)
    met = train.matrix().toarray().astype(float)
    others = met[:, 1:]
    by_hand = np.linalg.solve(others.T @ others + 2 * np.eye(3), others.T @ met[:, 0])  # item a from b, c, d

    scores = Ease.fit(train, ridge=2).scores([np.array([n]) for n in (1, 2, 3, 0)])

    assert scores[:3, 0].tolist() == pytest.approx(by_hand, rel=1e-5)
    assert scores[3, 0] == 0


def test_recent_ease_without_decay_is_ease() -> None:
    train = histories()

    plain = Ease.fit(train, ridge=5).scores(list(train))
    recent = RecentEase.fit(train, ridge=5, half_life=1e9, scored_half_life=1e9).scores(list(train))

    assert torch.allclose(plain, recent, atol=1e-5)


def test_transitions_count_what_follows_and_fade_with_steps_and_with_age() -> None:
    train = from_sequences([[0, 1, 2], [0, 1]], NAMES)
    fitted = Transitions.fit(train, reach=2, step_half_life=1, source=0, target=0, half_life=1)

    after_a, after_ba = fitted.scores([np.array([0]), np.array([1, 0])])

    assert after_a.tolist() == [0, 2, 0.5, 0]  # b twice at one step, c once at two
    assert after_ba.tolist() == [0, 2, 0.5 + 0.5 * 1, 0]  # b is one item older


def test_transitions_counted_in_parts_are_the_same_and_only_the_strongest_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = histories()
    whole = Transitions.fit(train)

    monkeypatch.setattr(transitions, "_PAIRS", 400)
    parts = Transitions.fit(train)
    monkeypatch.setattr(transitions, "_KEPT", 3)
    few = Transitions.fit(train)

    assert (parts.weights != whole.weights).nnz == 0
    assert np.diff(few.weights.indptr).max() == 3
    assert (few.weights.max(axis=1) != whole.weights.max(axis=1)).nnz == 0


@pytest.mark.parametrize("name", BASELINES)
def test_a_users_scores_do_not_depend_on_the_batch_and_are_the_callers_own(name: str) -> None:
    train = histories(users=30)
    ranker = BASELINES[name](train)
    others = [train[3], train[7][:2], np.array([5])]

    together = ranker.scores(others)
    alone = [ranker.scores([each])[0] for each in others]
    together_again = ranker.scores(others).fill_(9)

    assert together.shape == (3, ranker.items)
    assert together.dtype == torch.float32
    assert torch.allclose(together, torch.stack(alone), atol=1e-6)
    assert not torch.equal(ranker.scores(others), together_again)


@pytest.mark.parametrize("kind", [Popularity, Transitions, Ease, RecentEase])
def test_what_was_fitted_comes_back_from_its_tensors(kind: type[Popularity | Transitions | Ease | RecentEase]) -> None:
    train = histories()
    fitted = kind.fit(train)

    again = kind.of(fitted.tensors(), len(train.items))

    assert torch.equal(again.scores(list(train)), fitted.scores(list(train)))
    with pytest.raises(ValueError, match="the vocabulary has 3: fit anew"):
        kind.of(fitted.tensors(), 3)


def test_bpr_ranks_what_was_met_above_the_rest_for_known_and_for_new_users() -> None:
    train = from_sequences([[0, 1, 2, 3]] * 12 + [[4, 5, 6, 7]] * 12, [str(n) for n in range(8)])
    fitted = Bpr.fit(train, dim=4, rate=0.05, epochs=40)

    for scores in (fitted.scores([train[0]])[0], fitted.scores([np.array([1, 0, 2])])[0]):
        assert scores[:4].min() > scores[4:].max()


def test_order_is_learned_by_those_that_know_it() -> None:
    split = leave_one_out(histories())

    found = {name: evaluate.on_validation(make(split.train), split)["mrr"] for name, make in BASELINES.items()}

    assert max(found, key=lambda name: found[name]) == "transitions"
