"""Lists and profiles made in batches are those made one by one."""

import numpy as np
import pytest
import torch

from jobs.recommend.features import count, values
from jobs.recommend.model import ARCHITECTURES, Recommender, Shape
from jobs.recommend.precompute import stable_topk, top_lists
from jobs.recommend.profile import FeatureTable, profile_hash
from jobs.training.device import prepare, resolve
from tests.unit.recommend.synthetic import ITEMS, histories

FEATURES = {f"i{n}": {"genres": [f"g{n % 3}", f"g{n % 5}"], "year": 1980 + n, "studio": f"s{n % 4}"} for n in range(30)}


def model(architecture: str) -> Recommender:
    torch.manual_seed(0)
    network = Recommender(Shape(architecture, items=ITEMS, dim=16, blocks=2, length=12)).eval()
    torch.nn.init.normal_(network.item.weight, std=1.0)
    return prepare(network, resolve("cpu"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batched_lists_are_those_of_one_user_at_a_time(architecture: str) -> None:
    network, given = model(architecture), list(histories())

    batched = top_lists(network, given, 10, batch=16)

    for row, history in enumerate(given):
        single = top_lists(network, [history], 10)
        assert batched.lists()[row] == single.lists()[0]
        assert batched.score_lists()[row] == single.score_lists()[0]


def test_seen_items_are_never_listed_and_a_list_ends_with_the_catalogue() -> None:
    tops = top_lists(model("sasrec"), [np.arange(ITEMS - 3), np.array([1])], 10)

    assert [len(row) for row in tops.lists()] == [3, 10]
    assert [len(row) for row in tops.score_lists()] == [3, 10]
    assert sorted(tops.lists()[0]) == [ITEMS - 3, ITEMS - 2, ITEMS - 1]


def test_equal_scores_come_in_the_order_of_the_items() -> None:
    random = np.random.default_rng(0)
    scores = torch.from_numpy(random.integers(0, 4, (50, 30)).astype(np.float32))
    scores[0, :25] = -torch.inf

    items, best = stable_topk(scores, 10)
    everything = scores.sort(dim=1, descending=True, stable=True)

    assert (best == everything.values[:, :10].numpy()).all()
    finite = np.isfinite(best)
    assert (items[finite] == everything.indices[:, :10].numpy()[finite]).all()


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []

    top_lists(model("sasrec"), list(histories(users=10)), 3, batch=4, on_batch=lambda *numbers: told.append(numbers))

    assert told == [(4, 10), (8, 10), (10, 10)]


def test_an_empty_history_and_a_senseless_length_are_named() -> None:
    with pytest.raises(ValueError, match="history 1 is empty"):
        top_lists(model("sasrec"), [np.array([1]), np.array([], dtype=np.int64)], 5)
    with pytest.raises(ValueError, match="top_k is -1: ask for at least 1"):
        top_lists(model("sasrec"), [np.array([1])], -1)


def test_counts_in_bulk_are_those_of_the_loop() -> None:
    given = histories()
    table = FeatureTable(given.items, FEATURES)

    bulk = table.counts(list(given))

    assert bulk == [count(FEATURES.get(item, {}) for item in given.ids(user)) for user in range(len(given))]


def test_a_catalogue_without_features_counts_nothing() -> None:
    assert FeatureTable(["a"], {}).counts([np.array([0])]) == [{}]


def test_a_feature_counts_once_an_item_and_a_year_for_its_decade() -> None:
    features = {"genres": ["a", "a", "b"], "year": 1994.0, "adult": False, "plot": "x" * 200, "studio": None}

    assert list(values(features)) == [
        ("genres", "a"),
        ("genres", "b"),
        ("year", "1994"),
        ("decade", "1990s"),
        ("adult", "false"),
    ]


def test_the_profile_hash_knows_the_order_and_the_bounds_of_ids() -> None:
    assert profile_hash(["1", "2"]) == profile_hash(("1", "2"))
    assert profile_hash(["1", "2"]) != profile_hash(["2", "1"])
    assert profile_hash(["12"]) != profile_hash(["1", "2"])
