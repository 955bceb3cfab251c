"""The linear baseline: it learns, gives probabilities of every class, and is crossed without a look at its answers."""

import numpy as np
import pytest
import structlog

from jobs.text import baseline
from tests.unit.text import tiny


def test_it_learns_what_a_word_tells() -> None:
    data = tiny.dataset()

    made = baseline.fit(data.train.texts, data.train.labels, 2)

    assert (made.predict(data.dev.texts) == data.dev.labels).mean() > 0.9


def test_its_log_probabilities_sum_to_one_and_agree_with_its_answers() -> None:
    data = tiny.dataset()
    made = baseline.fit(data.train.texts, data.train.labels, 2)

    found = made.log_probs(data.dev.texts)

    assert found.dtype == np.float32
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-5)
    assert (found.argmax(axis=1) == data.dev.labels).mean() > 0.9


def test_a_class_without_texts_is_nearly_impossible() -> None:
    data = tiny.dataset()

    found = baseline.fit(data.train.texts, data.train.labels * 2, 4).log_probs(data.dev.texts)

    assert found.shape == (len(data.dev), 4)
    assert (found[:, [1, 3]] < -10).all()


def test_of_no_texts_it_says_nothing() -> None:
    data = tiny.dataset()

    # as an ensemble asks where there are no texts without labels
    assert baseline.fit(data.train.texts, data.train.labels, 2).log_probs([]).shape == (0, 2)


def test_crossed_log_probabilities_come_from_models_that_did_not_see_the_text() -> None:
    texts = [f"{number:03d}" for number in range(60)]  # nothing to learn but by heart
    labels = np.random.default_rng(0).integers(0, 2, 60)

    seen = baseline.fit(texts, labels, 2).log_probs(texts).argmax(axis=1)
    unseen = baseline.crossed(texts, labels, 2).argmax(axis=1)

    assert (seen == labels).mean() > 0.95
    assert (unseen == labels).mean() < 0.8


def test_it_is_the_same_for_the_same_seed() -> None:
    data = tiny.dataset()

    one, two = (baseline.crossed(data.train.texts, data.train.labels, 2, seed=1) for _ in range(2))

    np.testing.assert_array_equal(one, two)


def test_labels_of_one_class_only_are_refused() -> None:
    with pytest.raises(ValueError, match="class"):
        baseline.fit(["good", "bad"], np.zeros(2), 2)


def test_beside_a_network_it_is_measured_on_all_that_is_held_out() -> None:
    found = baseline.beside(tiny.dataset())

    assert found["dev"]["accuracy"] > 0.9
    assert found["test"].keys() == {"accuracy", "macro_f1", "texts"}


def test_a_network_that_does_not_beat_it_is_said_so() -> None:
    found = {"dev": {"accuracy": 0.9}}

    assert baseline.verdict(found, 0.91) is None
    said = baseline.verdict(found, 0.9, "student")
    assert said is not None
    assert said.startswith("the student does not beat the baseline")
    assert said.endswith("accuracy 0.9000 against 0.9000")


def test_where_both_are_perfect_dev_is_said_to_be_too_small() -> None:
    said = baseline.verdict({"dev": {"accuracy": 1.0}}, 1.0, "student")

    assert said is not None
    assert said.startswith("student and baseline")
    assert said.endswith("have every text of dev right: more texts in dev would tell them apart")


def test_what_goes_wrong_in_it_is_said_and_costs_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no room\nfor it")

    monkeypatch.setattr(baseline, "fit", broken)

    with structlog.testing.capture_logs() as logged:
        found = baseline.beside(tiny.dataset())

    assert found["failed"] == "no room"
    assert logged[0]["event"] == "baseline_failed"
    assert "whether the teacher beats it is unknown" in str(baseline.verdict(found, 0.5))
