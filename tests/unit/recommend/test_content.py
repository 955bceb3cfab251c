"""Items that nobody has seen, judged by their features; and why an item is recommended."""

import numpy as np
import pytest

import jobs.recommend.content as module
from jobs.recommend.content import Content
from jobs.recommend.features import count
from jobs.recommend.why import sentence, shared

RANDOM = np.random.default_rng(0)
OF_GENRE = RANDOM.standard_normal((3, 4))
FEATURES = [{"genres": [f"g{n % 3}"], "year": 1990 + n % 5} for n in range(60)]
VECTORS = OF_GENRE[np.arange(60) % 3] + 0.01 * RANDOM.standard_normal((60, 4))


@pytest.fixture(scope="module")
def fitted() -> Content:
    return Content.fit(VECTORS, FEATURES, [f"Title {n}" for n in range(60)])


def test_a_new_item_gets_the_vector_of_its_kind(fitted: Content) -> None:
    made = fitted.vectors([{"genres": ["g1"], "year": 1993}, {"genres": ["g2"]}], ["Title 99", None])

    assert np.abs(made - OF_GENRE[[1, 2]]).max() < 0.2


def test_scores_of_new_items_are_those_that_their_vectors_give(fitted: Content) -> None:
    user = RANDOM.standard_normal(4)
    new = [{"genres": ["g0"]}, {"genres": ["g1"], "year": 1991}]

    assert np.allclose(fitted.scores((VECTORS @ user)[:, None], new)[:, 0], fitted.vectors(new) @ user)


def test_what_is_said_of_an_item_that_is_left_out_is_what_a_fit_without_it_says(
    fitted: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RIDGES", (fitted.ridge,))
    rest = Content.fit(VECTORS[1:], FEATURES[1:], [f"Title {n}" for n in range(1, 60)])

    assert rest.columns.keys() == fitted.columns.keys()
    assert np.allclose(fitted.left_out(VECTORS)[0], rest.vectors(FEATURES[:1], ["Title 0"])[0])


def test_a_large_catalogue_is_judged_by_a_sample_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FITTED", 40)

    sampled = Content.fit(VECTORS, FEATURES)

    assert len(set(sampled.fitted.tolist())) == 40
    assert sampled.left_out(VECTORS).shape == (40, 4)
    assert np.abs(sampled.left_out(VECTORS) - VECTORS[sampled.fitted]).max() < 0.5


def test_features_that_no_other_item_has_are_not_known(fitted: Content) -> None:
    assert fitted.known({"genres": ["g0", "new"], "year": 2031}) == [("genres", "g0")]
    assert fitted.known({"studio": "unheard of"}) == []


def test_what_item_and_history_share_is_counted_and_said() -> None:
    history = [{"genres": ["Drama", "War"], "year": 1995}] * 3 + [{"genres": ["Drama"], "year": 1981}]
    profile = count(history)

    found = shared({"genres": ["Drama", "Comedy"], "year": 1995, "director": "A"}, profile, len(history))

    assert sentence(found) == "genres: Drama (4 of 4); decade: 1990s (3 of 4); year: 1995 (3 of 4)"
    assert found[0].json() == {"feature": "genres", "value": "Drama", "count": 4, "of": 4}


def test_what_was_met_once_in_a_longer_history_is_no_reason() -> None:
    assert shared({"genres": ["War"]}, {"genres": {"War": 1}}, 5) == []
    assert len(shared({"genres": ["War"]}, {"genres": {"War": 1}}, 1)) == 1
