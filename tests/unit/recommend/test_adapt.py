"""Adaptation to each user: it learns from the user alone, is dropped where it does not help, and leaves the network."""

import numpy as np
import pytest
import torch

from jobs.recommend.adapt import Adapted
from jobs.recommend.model import Recommender, Shape
from tests.unit.recommend.synthetic import ITEMS, histories

GIVEN = list(histories(users=12))


def network(architecture: str = "sasrec") -> Recommender:
    torch.manual_seed(5)
    return Recommender(Shape(architecture, ITEMS, dim=8, length=10)).double().eval()


def test_no_steps_leave_the_network_as_it_is() -> None:
    model = network()

    torch.testing.assert_close(Adapted(model, steps=0).scores(GIVEN), model.scores(GIVEN))


def test_a_users_scores_do_not_depend_on_who_else_is_in_the_batch() -> None:
    adapted = Adapted(network(), steps=3)

    together = adapted.scores(GIVEN)

    torch.testing.assert_close(together, torch.cat([adapted.scores([each]) for each in GIVEN]))


def test_it_is_used_for_those_whose_last_item_it_makes_likelier_and_the_network_stays() -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted = Adapted(model, steps=10, rate=0.1, pull=0.0)

    changed = ((adapted.scores(GIVEN) - model.scores(GIVEN)).abs() > 1e-9).any(dim=1)

    assert adapted.users == len(GIVEN)
    assert 0 < adapted.kept == int(changed.sum()) < len(GIVEN)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_users_of_two_items_have_nothing_to_adapt_to() -> None:
    short = [each[:count] for each, count in zip(GIVEN[:4], (1, 2, 2, 1), strict=True)]
    mixed = [*short, np.asarray(GIVEN[4])]
    model = network()

    torch.testing.assert_close(Adapted(model).scores(short), model.scores(short))
    torch.testing.assert_close(Adapted(model).scores(mixed)[:4], model.scores(short))


def test_a_network_that_reads_both_ways_is_refused() -> None:
    with pytest.raises(ValueError, match="only a causal network"):
        Adapted(network("bert4rec"))
