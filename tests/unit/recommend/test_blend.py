"""Blends: one scale for all parts, weights that generalise, counts that know only what they may, and their artifact."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.recommend import artifact, blend, weights
from jobs.recommend.baselines import Transitions
from jobs.recommend.data import Catalogue, Dataset
from jobs.recommend.fit import QUICK
from jobs.recommend.histories import Histories, leave_one_out
from jobs.recommend.model import Recommender, Shape
from jobs.recommend.ranker import Array
from jobs.training.engine import Fitted
from jobs.training.record import Record
from tests.unit.recommend.synthetic import histories

GIVEN = histories()
SPLIT = leave_one_out(GIVEN)
ITEMS = len(GIVEN.items)
SOME = list(GIVEN)[:7]


class Table:
    """A ranker whose scores are `scale` times (one if the item is `hit` steps behind the user's last), and noise."""

    def __init__(
        self, hit: int | None, noise: float = 1.0, scale: float = 1.0, shift: float = 0.0, seed: int = 0
    ) -> None:
        self.hit, self.noise, self.scale, self.shift, self.seed = hit, noise, scale, shift, seed
        self.name, self.items, self.device = "table", ITEMS, torch.device("cpu")

    def scores(self, given: list[Array]) -> torch.Tensor:
        rows = [np.random.default_rng((self.seed, len(each), int(each[0]))).standard_normal(ITEMS) for each in given]
        made = np.stack(rows) * self.noise
        if self.hit is not None:
            made[np.arange(len(given)), [(each[-1] + self.hit) % ITEMS for each in given]] += 1
        return torch.from_numpy(self.shift + self.scale * made)


def network(seed: int = 1) -> Recommender:
    torch.manual_seed(seed)
    return Recommender(Shape("sasrec", ITEMS, dim=8, length=10)).eval()


@pytest.mark.parametrize("fusion", blend.FUSIONS)
def test_a_blend_of_one_part_ranks_as_the_part_does(fusion: str) -> None:
    part, seen = network(), blend.met(SOME, ITEMS)

    alone = part.scores(SOME).masked_fill(seen, -torch.inf)
    mixed = blend.Blend({"network": part}, {"network": 0.3}, fusion).scores(SOME).masked_fill(seen, -torch.inf)

    top = 5  # shorter than anybody's unseen items
    assert torch.equal(mixed.topk(top).indices, alone.topk(top).indices)


def test_the_scale_of_a_part_does_not_matter() -> None:
    weights_ = {"network": 1.0, "transitions": 0.5}
    plain = blend.Blend({"network": Table(1), "transitions": Table(2)}, weights_)
    other = blend.Blend({"network": Table(1, scale=50, shift=-9), "transitions": Table(2, shift=3)}, weights_)

    torch.testing.assert_close(plain.scores(SOME), other.scores(SOME))


def test_a_part_that_says_the_same_of_all_items_adds_nothing() -> None:
    flat = Table(None, noise=0, shift=1 / 3)

    mixed = blend.Blend({"network": Table(1), "transitions": flat}, {"network": 1.0, "transitions": 9.0})

    torch.testing.assert_close(mixed.scores(SOME), blend.Blend({"network": Table(1)}, {"network": 1.0}).scores(SOME))


def test_what_helps_gets_weight_and_noise_is_left_out() -> None:
    learned = weights.learn({"network": Table(1, noise=0.3), "transitions": Table(None), "ease": Table(-1)}, SPLIT)

    assert learned.weights.keys() == {"network"}
    assert learned.alone["network"]["hit@10"] > learned.alone["transitions"]["hit@10"]


def test_learned_weights_are_those_of_the_highest_likelihood() -> None:
    parts = {"network": Table(1, noise=0.6), "second": Table(1, noise=0.8, seed=1)}
    choices = weights._Choices(parts, SPLIT, seed=0)

    loss, found = choices._fit("score", ("network", "second"))

    def near(network: float, second: float) -> float:
        total = network * choices._scores["score", "network"] + second * choices._scores["score", "second"]
        total = total.masked_fill(choices._closed, -torch.inf)
        return float((total.logsumexp(dim=1) - total[:, 0]).mean())

    assert near(**found) == pytest.approx(loss, rel=1e-3)
    for step in ({"network": 0.1}, {"network": -0.1}, {"second": 0.1}, {"second": -0.1}):
        assert near(**{name: value + step.get(name, 0) for name, value in found.items()}) > loss


def test_counting_parts_are_fitted_anew_and_networks_are_not() -> None:
    part = network()
    mixed = blend.Blend(
        {"network": part, "transitions": Transitions.fit(SPLIT.train)}, dict.fromkeys(("network", "transitions"), 1)
    )

    knowing = mixed.knowing(GIVEN)

    assert knowing.parts["network"] is part
    expected = blend.counted(GIVEN)[0]["transitions"].scores(SOME)
    assert torch.equal(knowing.parts["transitions"].scores(SOME), expected)
    assert not torch.equal(mixed.parts["transitions"].scores(SOME), expected)


def test_large_catalogues_do_without_ease_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blend, "MOST_ITEMS", ITEMS - 1)

    parts, left_out = blend.counted(SPLIT.train)

    assert parts.keys() == {"transitions"}
    assert left_out.keys() == {"ease", "recent-ease"}
    assert left_out["ease"].startswith("40 items are more than 39")


def test_a_saved_blend_loads_as_the_same_blend(tmp_path: Path) -> None:
    parts = {"network": network(), "second": network(2)} | blend.counted(GIVEN)[0]
    mixed = blend.Blend(parts, dict.fromkeys(parts, 0.25))
    fitted = Fitted(parts["network"], [{"ndcg@10": 0.1}], 1, Record())
    dataset = Dataset("walks", GIVEN, Catalogue({}, {}))

    artifact.save_model(tmp_path, fitted, QUICK, dataset, {}, artifact.Blended(mixed, {}, {"ease": "too large"}))
    loaded = artifact.load_model(tmp_path)

    ranker = loaded.ranker
    assert isinstance(ranker, blend.Blend)
    assert ranker.parts["network"] is loaded.model
    torch.testing.assert_close(ranker.scores(SOME), mixed.scores(SOME).double(), atol=1e-4, rtol=1e-4)
    assert loaded.manifest["blend"]["left_out"] == {"ease": "too large"}


def test_histories_of_which_a_sample_of_alternatives_is_drawn_give_nearly_the_same_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def learned(given: Histories) -> float:
        split = leave_one_out(given)
        return weights.learn({"network": Table(1, noise=0.4)}, split).weights["network"]

    many = histories(users=400)
    whole = learned(many)
    monkeypatch.setattr(weights, "ALTERNATIVES", ITEMS // 2)

    assert learned(many) == pytest.approx(whole, rel=0.2)
