"""Policies: hand-computed steps of MMR, novelty and calibration, their sum, and what filters let through."""

import numpy as np
import pytest
from sqlalchemy.orm import Session

from db import catalogue
from db.catalogue import Item
from jobs.recommend.choose import descending
from jobs.recommend.features import facts
from jobs.recommend.params import Policy
from jobs.recommend.policy import filters
from jobs.recommend.policy.calibration import ALPHA, divergence, mix, spread_over
from jobs.recommend.policy.filters import Filter, UnknownLabel, check_labels
from jobs.recommend.policy.mmr import spread
from jobs.recommend.policy.novelty import self_information
from jobs.recommend.policy.rerank import Pool, Weights, rerank
from jobs.recommend.popular import popular

VECTORS = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.7, 0.7]])
RELEVANCE = np.array([4.0, 3.0, 2.0, 0.0])  # over the range: 1, .75, .5, 0


def policy(**values: object) -> Policy:
    return Policy.model_validate(values)


def test_without_weights_the_list_is_the_head_of_the_pool() -> None:
    assert rerank(Pool(RELEVANCE), Weights(), 3).tolist() == [0, 1, 2]
    assert rerank(Pool(RELEVANCE), Weights(), 9).tolist() == [0, 1, 2, 3]


def test_marginal_relevance_is_that_of_the_paper_step_by_step() -> None:
    # The second at .5: .75 - cos(1, 0) = .75 - .994; .5 - 0; 0 - .707. The third: .75 - .994; 0 - .707.
    assert rerank(Pool(RELEVANCE, VECTORS), Weights(diversity=0.5), 2).tolist() == [0, 2]
    assert rerank(Pool(RELEVANCE, VECTORS), Weights(diversity=0.5), 3).tolist() == [0, 1, 2]


def test_what_is_chosen_is_listed_by_relevance() -> None:
    random = np.random.default_rng(0)
    mass = spread_over([[str(n % 3)] for n in range(40)], list("012"))
    pool = Pool(np.sort(random.random(40))[::-1], random.standard_normal((40, 4)), mass=mass, wanted=mix(mass))

    chosen = rerank(pool, Weights(diversity=0.5, calibration=0.5), 8).tolist()

    assert chosen == sorted(chosen) != list(range(8))


def test_diversity_alone_takes_what_is_least_like_the_list_whatever_its_relevance() -> None:
    chosen = rerank(Pool(RELEVANCE, VECTORS), Weights(diversity=1.0), 3).tolist()

    assert chosen == [0, 2, 3]  # 3 is at .707 of both, 1 at .994 of the first


@pytest.mark.parametrize("seed", range(3))
def test_diversity_makes_a_list_less_alike(seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((60, 8))
    pool = Pool(np.sort(random.random(60))[::-1], vectors)

    plain, diverse = (spread(vectors[rerank(pool, Weights(diversity=each), 10)]) for each in (0.0, 1.0))

    assert plain < diverse


def test_intra_list_diversity_is_the_mean_over_pairs() -> None:
    assert spread(VECTORS[[0, 2]]) == pytest.approx(1.0)
    assert spread(VECTORS[[0, 2, 3]]) == pytest.approx((1 + 2 * (1 - 2**-0.5)) / 3)
    assert spread(VECTORS[:1]) == 0


def test_novelty_is_self_information_in_bits_and_alone_it_takes_the_least_known_first() -> None:
    bits = self_information(np.array([7.0, 3.0, 1.0, 1.0]))  # 8, 4, 2 and 2 of 16 events

    assert bits.tolist() == [1.0, 2.0, 3.0, 3.0]
    assert rerank(Pool(RELEVANCE, information=bits), Weights(novelty=1.0), 4).tolist() == [2, 3, 1, 0]


def test_the_divergence_of_a_mix_is_zero_if_it_is_met_and_worst_if_nothing_of_it_is_there() -> None:
    wanted = np.array([0.7, 0.3])

    assert divergence(wanted, wanted) == pytest.approx(0)
    assert divergence(wanted, np.zeros(2)) == pytest.approx(-np.log(ALPHA))
    half = divergence(wanted, np.array([0.5, 0.5]))
    smooth = 0.99 * 0.5 + 0.01 * wanted
    assert half == pytest.approx(0.7 * np.log(0.7 / smooth[0]) + 0.3 * np.log(0.3 / smooth[1]))


def test_calibration_alone_gives_the_users_mix_of_genres() -> None:
    genres = [["A"]] * 10 + [["B"]] * 10 + [["C"]] * 10
    mass = spread_over(genres, ["A", "B", "C"])
    wanted = mix(spread_over([["A"]] * 7 + [["B"]] * 3, ["A", "B", "C"]))
    pool = Pool(np.arange(30.0)[::-1], mass=mass, wanted=wanted)

    counts = [mass[rerank(pool, Weights(calibration=each), 10)].sum(axis=0).tolist() for each in (0.0, 1.0)]

    assert counts == [[10, 0, 0], [7, 3, 0]]


def test_an_item_spreads_its_mass_over_its_genres_and_one_without_has_none() -> None:
    mass = spread_over([["A", "B"], ["B"], []], ["A", "B"])

    assert mass.tolist() == [[0.5, 0.5], [0, 1], [0, 0]]
    assert mix(mass).tolist() == [0.25, 0.75]
    assert mix(mass[2:]).tolist() == [0, 0]


def test_all_weights_together_choose_each_candidate_once() -> None:
    random = np.random.default_rng(0)
    mass = spread_over([[str(n % 3)] for n in range(40)], list("012"))
    pool = Pool(random.random(40), random.standard_normal((40, 4)), random.random(40), mass, mix(mass))

    chosen = rerank(pool, Weights(0.3, 0.3, 0.3), 40)

    assert sorted(chosen.tolist()) == list(range(40))


def test_a_weight_without_its_part_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs the pool's vectors"):
        rerank(Pool(RELEVANCE), Weights(diversity=0.1), 2)


@pytest.mark.parametrize("head", [1, 7, 30, 99])
def test_items_come_in_the_order_of_their_scores_and_equals_in_their_own(head: int) -> None:
    scores = np.random.default_rng(0).integers(0, 5, 30).astype(float)

    assert list(descending(scores, head)) == np.argsort(-scores, kind="stable").tolist()


@pytest.mark.parametrize(
    ("features", "asked", "passes"),
    [
        ({"genres": ["Sci Fi", "War"]}, {"genres": ["sci  fi"]}, True),
        ({"genre": "War"}, {"genres": ["drama"]}, False),
        ({"genres": ["War", "Drama"]}, {"genres": ["drama"], "without_genres": ["WAR"]}, False),
        ({}, {"without_genres": ["War"]}, True),
        ({}, {"genres": ["War"]}, False),
        ({"tags": ["Pirates"], "genres": ["Action"]}, {"tags": ["pirates"], "genres": ["action"]}, True),
        ({"tags": ["Pirates"], "genres": ["Drama"]}, {"tags": ["pirates"], "genres": ["action"]}, False),
        ({"keywords": ["Pirates", "Gore"]}, {"tags": ["pirates"], "without_tags": ["gore"]}, False),
        ({"seasonYear": 1999}, {"year_from": 1999, "year_to": 1999}, True),
        ({"start_date": "1998-07-01"}, {"year_from": 1999}, False),
        ({}, {"year_to": 1999}, False),
        ({"isAdult": True}, {}, False),
        ({"is_adult": "true"}, {"adult": True}, True),
        ({"adult": "false"}, {}, True),
    ],
)
def test_filters_know_the_names_that_catalogues_use(features: dict, asked: dict, passes: bool) -> None:
    assert Filter(policy(**asked))(facts(features)) is passes


def test_an_unknown_genre_or_tag_is_one_line_that_lists_the_known_ones() -> None:
    check_labels(policy(genres=["war"], without_genres=["DRAMA"], tags=["pirates"]), ["War", "Drama"], ["Pirates"])

    with pytest.raises(UnknownLabel, match=r"^unknown genre 'Dramma': there are Drama, War$"):
        check_labels(policy(without_genres=["Dramma"]), ["War", "Drama"], [])
    with pytest.raises(UnknownLabel, match=r"^unknown tag 'Priates': there are Pirates$"):
        check_labels(policy(tags=["Priates"]), [], ["Pirates"])
    with pytest.raises(UnknownLabel, match="the catalogue has no genres"):
        check_labels(policy(genres=["War"]), [], [])


def test_a_catalogue_is_searched_for_an_unknown_genre_with_each_items_labels_looked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items = [Item(str(number), "", {"genres": [f"genre {number}"]}, 0.0) for number in range(300)]
    monkeypatch.setattr(catalogue, "popular", lambda _: (each for each in items))
    compared, plain = list[str](), filters._plain
    monkeypatch.setattr(filters, "_plain", lambda name: compared.append(name) or plain(name))

    with pytest.raises(UnknownLabel, match="unknown genre 'horror': there are genre 0, "):
        popular(Session(), 5, policy(without_genres=["horror"]))
    looked = len(compared)
    found = popular(Session(), 5, policy(without_genres=["Genre 7", "Genre  0"]))

    assert looked < 5 * len(items)
    assert [each.item_id for each in found] == ["1", "2", "3", "4", "5"]
