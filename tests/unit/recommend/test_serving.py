"""Whatever way lists are computed, they are those of torch in float64, or as near to them as was asked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from jobs.recommend import engines, index, serving
from jobs.recommend.baselines import Transitions
from jobs.recommend.blend import Blend
from jobs.recommend.fused import Fused
from jobs.recommend.histories import from_sequences
from jobs.recommend.index import Index, reach, recall
from jobs.recommend.model import ARCHITECTURES, Recommender, Shape
from jobs.recommend.precompute import Exhaustive, top_lists
from jobs.recommend.ranker import Array
from jobs.recommend.serving import Served
from jobs.recommend.settings import settings
from jobs.recommend.settled import Settled, error
from jobs.training.device import prepare, resolve
from tests.unit.recommend.synthetic import ITEMS, histories

TOP_K = 10


@pytest.fixture(autouse=True)
def _settings() -> Any:
    settings.cache_clear()
    yield
    settings.cache_clear()


def network(architecture: str = "sasrec", items: int = ITEMS) -> Recommender:
    torch.manual_seed(0)
    made = Recommender(Shape(architecture, items=items, dim=8, blocks=2, length=12)).eval()
    torch.nn.init.normal_(made.item.weight)
    torch.nn.init.normal_(made.bias)
    return prepare(made, resolve("cpu"))


class Rounded:
    """A ranker of few digits, in which many scores tie."""

    def __init__(self, exact: Recommender) -> None:
        self.exact, self.name, self.items, self.device = exact, exact.name, exact.items, exact.device

    def scores(self, histories: Sequence[Array]) -> torch.Tensor:
        return self.exact.scores(histories).float().round(decimals=2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_onnx_gives_the_lists_of_torch(architecture: str) -> None:
    exact, given = network(architecture), list(histories())
    fast = engines.by_onnx(exact)

    off = error(fast, exact, given)
    tops = top_lists(exact, given, TOP_K, batch=16, search=Settled(fast, exact, off))

    assert 0 < off < 1e-4
    assert tops.lists() == top_lists(exact, given, TOP_K).lists()


def test_what_an_engine_cannot_order_is_ordered_by_float64() -> None:
    exact, given = network(), [np.arange(ITEMS - 3), *histories()]  # one with fewer items left than asked for
    coarse = Rounded(exact)
    search = Settled(coarse, exact, error(coarse, exact, given))

    assert (Exhaustive(coarse).best(given, TOP_K)[0] != Exhaustive(exact).best(given, TOP_K)[0]).any()
    assert top_lists(exact, given, TOP_K, search=search).lists() == top_lists(exact, given, TOP_K).lists()


def test_a_blend_has_its_network_on_the_engine_and_shares_the_rest() -> None:
    first, second = network(), Rounded(network())
    blend = Blend({"network": first, "second": second}, {"network": 0.7, "second": 0.3})

    fast = serving.with_engine(blend, engines.by_torch)

    assert isinstance(fast, Blend)
    assert fast.parts["second"] is second
    assert error(fast, blend, list(histories())) < 1e-4


def test_an_index_that_looks_everywhere_gives_the_exact_lists() -> None:
    exact, random = network(items=400), np.random.default_rng(0)
    given = [random.choice(400, size, replace=False) for size in (1, 5, 30, 395, 400)]
    truth, scores = Exhaustive(exact).best(given, TOP_K)
    search = Index(exact)
    search.probes = 400

    items, values = search.best(given, TOP_K)

    assert (items[:3] == truth[:3]).all()
    assert (items[3, :5] == truth[3, :5]).all()  # of 400 items this user has five left
    assert np.isneginf(values[3, 5:]).all()
    assert values[:3] == pytest.approx(scores[:3], abs=1e-5)


def test_the_recall_of_an_index_is_measured_and_more_cells_are_looked_at_for_it() -> None:
    exact, random = network(items=4000), np.random.default_rng(0)
    given = [random.choice(4000, 5, replace=False) for _ in range(20)]
    truth = Exhaustive(exact).best(given, TOP_K)[0]
    search = Index(exact)
    search.probes = 1

    found = reach(search, 1.1, given, truth)  # more than there is: it stops where scoring all would be as fast

    assert 1 < search.probes <= search._cells.nlist / 8
    assert found == recall(search.best(given, TOP_K)[0], truth)


def test_candidates_of_a_blends_parts_are_fused_to_the_scores_of_the_exact_blend() -> None:
    random = np.random.default_rng(0)
    given = [random.choice(400, size, replace=False) for size in (1, 5, 30, 395, 400)]
    counts = Transitions.fit(from_sequences([*given, np.arange(10)], [str(number) for number in range(400)]))
    row = slice(*counts.weights.indptr[given[0][0] :][:2])
    counts.weights.data[row] = 0  # nothing follows what the first user has seen
    blend = Blend({"network": network(items=400), "transitions": counts}, {"network": 1.0, "transitions": 0.4})
    truth, scores = Exhaustive(blend).best(given, TOP_K)

    fused = Fused(blend)
    fused.probes = 400
    with np.errstate(divide="raise", invalid="raise"):  # the last user has seen everything
        items, values = fused.best(given, TOP_K)
    fused.probes = 1

    assert (items[:3] == truth[:3]).all()
    assert (items[3, :5] == truth[3, :5]).all()
    assert values == pytest.approx(scores, abs=1e-5)
    assert 0.3 < recall(fused.best(given[:3], TOP_K)[0], truth[:3]) < 1
    assert (fused.best(given[1:2], TOP_K)[0] == fused.best(given, TOP_K)[0][1]).all()  # whoever else is in the batch
    assert serving.fusible(blend)
    assert not serving.fusible(Blend(blend.parts, blend.weights, "reciprocal rank"))


def test_ways_are_measured_once_it_pays_and_the_lists_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    exact, given = network(), list(histories()) * 2
    served = Served(exact)
    before = served.top_lists(given, TOP_K)
    assert (served.chosen, served.tried) == ("torch", [])  # nothing to gain yet

    monkeypatch.setattr(serving, "_COST_S", 0.0)
    monkeypatch.setattr(serving, "_GAIN", 1000.0)  # whatever is tried last and may be taken
    after = served.top_lists(given, TOP_K)

    assert served.chosen == "onnx"
    assert after.lists() == before.lists()
    said = {each["way"]: each for each in served.said()["tried"]}
    assert said["onnx"]["identical"] == 1
    assert "it changes lists" in said["int8"]["reason"]


def test_a_catalogue_below_the_floor_of_recall_has_every_item_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "INDEX_FROM", 100)
    monkeypatch.setattr(serving, "ENGINES", {})
    monkeypatch.setattr(index, "reach", lambda *_: 0.9)
    served = Served(network(items=400))

    served.choose([np.array([number]) for number in range(64)], TOP_K)

    assert served.chosen == "torch"
    assert served.tried[-1].reason == "recall 0.900 with 8 probes is below 0.95: every item is scored"


def test_an_engine_that_was_asked_for_is_taken_without_comparing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_RECOMMEND_ENGINE", "int8")
    served = Served(network())

    served.top_lists(list(histories(users=3)), TOP_K)

    assert served.chosen == "int8"
