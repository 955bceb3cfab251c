"""The text expert and its gate: what they begin as, that a second stage that does not help is dropped, the artifact."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.recommend import artifact, batches, joint
from jobs.recommend.data import Catalogue, Dataset
from jobs.recommend.described import described
from jobs.recommend.evaluate import METRIC
from jobs.recommend.fit import PLAIN, QUICK, train
from jobs.recommend.gate import Gated, Projected
from jobs.recommend.histories import leave_one_out
from jobs.recommend.losses import Loss
from jobs.recommend.model import Recommender, Shape
from jobs.recommend.stages import Stages
from jobs.training.tables import DataError
from tests.unit.recommend.synthetic import ITEMS, histories

GIVEN = histories()
SPLIT = leave_one_out(GIVEN)
SOME = list(GIVEN)[:5]
RECIPE = replace(QUICK, epochs=1, batch=32, joint=1)
TEXTS = torch.randn((ITEMS, 6), generator=torch.Generator().manual_seed(0))


def gated() -> Gated:
    torch.manual_seed(1)
    network = Recommender(Shape("sasrec", ITEMS, dim=8, length=10, dropout=0.0))
    torch.nn.init.normal_(network.bias)
    return Gated(network, Projected(TEXTS, 8)).eval()


def test_scores_are_those_of_both_experts_in_the_shares_of_the_gate() -> None:
    made = gated()
    with torch.no_grad():
        torch.nn.init.normal_(made.gate.weight)
        hidden = torch.stack([made.network.encode(torch.from_numpy(each[None, -10:]))[0, -1] for each in SOME])
        share = made.gate(hidden).softmax(dim=1)
        expected = share[:, :1] * made.network.score(hidden) + share[:, 1:] * (hidden @ made.texts().T)

    torch.testing.assert_close(made.scores(SOME), expected)
    torch.testing.assert_close(made.fixed().scores(SOME), expected)


def test_the_loss_of_a_gate_that_lets_no_text_through_is_the_networks() -> None:
    made = gated()
    batch = batches.epoch(GIVEN, made.network.shape, np.random.default_rng(0)).batch(np.arange(8))
    with torch.no_grad():
        made.gate.bias.copy_(torch.tensor([50.0, -50.0]))
        hidden = made.network.encode(batch.rows).flatten(0, 1)[batch.place]

        both = Loss("full").of(made.vectors(), None, made.users(hidden), batch)
        alone = Loss("full").of(made.network.item.weight, made.network.bias, hidden, batch)

    torch.testing.assert_close(both, alone)


@pytest.mark.parametrize("needed", [-2.0, 2.0])
def test_the_second_stage_is_kept_only_if_it_earns_its_place(
    needed: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint, "EARNED", needed)
    stages = Stages(PLAIN, torch.device("cpu"))
    first = train(stages, SPLIT, RECIPE)

    found = joint.join(stages, SPLIT, RECIPE, first, TEXTS)

    assert found.facts["pretrained"] == first.best[METRIC]
    assert found.facts["kept"] == (needed < 0) == (found.ranker is not None)
    assert needed < 0 or found.facts["why"].endswith("their weight is 0")
    assert (found.fitted is first) == (needed > 0)
    dataset = Dataset("walks", GIVEN, Catalogue({}, {}))
    artifact.save_model(tmp_path, found.fitted, RECIPE, dataset, {}, joint=found)
    loaded = artifact.load_model(tmp_path)
    expected = (found.ranker or found.fitted.model).scores(SOME).double()
    torch.testing.assert_close(loaded.ranker.scores(SOME), expected, atol=1e-4, rtol=1e-4)


def test_items_of_which_nothing_is_known_cannot_be_described() -> None:
    with pytest.raises(DataError, match="neither titles nor features: give one, or leave joint out"):
        described(GIVEN.items, Catalogue({}, {}))
