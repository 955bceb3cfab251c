"""The losses, each against an identity with another one or with its definition; and what a recipe does to examples."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jobs.recommend import augment, batches, losses
from jobs.recommend.fit import QUICK, Recommending
from jobs.recommend.histories import Histories, from_sequences, leave_one_out
from jobs.recommend.losses import Loss
from jobs.recommend.model import Recommender, Shape
from tests.unit.recommend.synthetic import ITEMS, histories

GIVEN = histories()


def example(ahead: int = 1, architecture: str = "sasrec") -> tuple[Recommender, torch.Tensor, batches.Batch]:
    torch.manual_seed(3)
    shape = Shape(architecture, ITEMS, dim=8, length=10, dropout=0.0)
    model = Recommender(shape).requires_grad_(False)
    torch.nn.init.normal_(model.bias)
    windows = batches.epoch(GIVEN, shape, np.random.default_rng(0), ahead=ahead, fading=0.5)
    batch = windows.batch(np.arange(12))
    return model, model.encode(batch.rows).flatten(0, 1)[batch.place], batch


def open_items(model: Recommender, hidden: torch.Tensor, batch: batches.Batch) -> torch.Tensor:
    """(T, items) logits, -inf where the user has read the item."""
    logits = model.score(hidden)
    for row, known in enumerate(batch.known):
        logits[row, known[known < ITEMS]] = -torch.inf
    return logits


@pytest.mark.parametrize("architecture", ["sasrec", "bert4rec"])
def test_the_full_softmax_is_cross_entropy_over_what_the_user_has_not_read(architecture: str) -> None:
    model, hidden, batch = example(architecture=architecture)

    loss = Loss("full").of(model.item.weight, model.bias, hidden, batch)

    expected = F.cross_entropy(open_items(model, hidden, batch), batch.target[:, 0], reduction="sum")
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("biased", [True, False])
def test_the_gradient_of_the_full_softmax_is_that_of_its_definition(ahead: int, biased: bool) -> None:
    model, hidden, batch = example(ahead)
    given = [model.item.weight.double(), *([model.bias.double()] if biased else []), hidden.double()]
    weight = batch.weight.double()
    batch = replace(batch, weight=weight / weight.sum(dim=1, keepdim=True))

    def defined(vectors: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        bias, users = rest if biased else (None, *rest)
        log_p = losses.logits(vectors, bias, users, batch).log_softmax(dim=1)
        return -(log_p.gather(1, batch.target) * batch.weight).sum()

    def ours(vectors: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        bias, users = rest if biased else (None, *rest)
        return Loss("full").of(vectors, bias, users, batch)

    def of(loss: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, ...]:
        leaves = [each.clone().requires_grad_() for each in given]
        value = loss(*leaves)
        return value.detach(), *torch.autograd.grad(value * 3, leaves)

    torch.testing.assert_close(of(ours), of(defined))


def test_under_autocast_the_gradients_have_the_precision_of_the_weights() -> None:
    model, hidden, batch = example(3)
    leaves = [each.clone().requires_grad_() for each in (model.item.weight, model.bias, hidden)]

    with torch.autocast("cpu", torch.bfloat16):
        low = Loss("full").of(leaves[0], leaves[1], leaves[2], batch)
    exact = Loss("full").of(leaves[0], leaves[1], leaves[2], batch)

    for rough, fine in zip(torch.autograd.grad(low, leaves), torch.autograd.grad(exact, leaves), strict=True):
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, fine, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("ahead", "smoothing"), [(1, 0.0), (3, 0.0), (3, 0.2)])
def test_a_sample_of_all_negatives_gives_the_full_softmax(ahead: int, smoothing: float) -> None:
    model, hidden, batch = example(ahead)

    full = Loss("full", smoothing=smoothing).of(model.item.weight, model.bias, hidden, batch)
    sampled = Loss("sampled", negatives=ITEMS, smoothing=smoothing).of(model.item.weight, model.bias, hidden, batch)

    torch.testing.assert_close(sampled, full)


def test_a_smaller_sample_estimates_the_full_softmax() -> None:
    model, hidden, batch = example()

    drawn = [
        float(Loss("sampled", negatives=ITEMS // 2).of(model.item.weight, model.bias, hidden, batch)) for _ in range(50)
    ]

    assert np.mean(drawn) == pytest.approx(
        float(Loss("full").of(model.item.weight, model.bias, hidden, batch)), rel=0.02
    )


def test_gbce_without_calibration_is_binary_cross_entropy() -> None:
    model, hidden, batch = example()

    loss = Loss("gbce", negatives=ITEMS, calibration=0.0).of(model.item.weight, model.bias, hidden, batch)

    logits = open_items(model, hidden, batch)
    wanted = F.one_hot(batch.target[:, 0], ITEMS).float()
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")[logits.isfinite()]
    torch.testing.assert_close(loss, each.sum() / (ITEMS + 1))


def test_gbce_fully_calibrated_weighs_the_positive_by_the_share_of_negatives() -> None:
    own, others = torch.tensor([[0.3]]), torch.zeros((1, 4))

    loss = losses._gbce(own, others, torch.ones((1, 1)), calibration=1.0, negatives=4, items=41)

    assert float(loss) == pytest.approx((0.1 * -math.log(1 / (1 + math.exp(-0.3))) + 4 * math.log(2)) / 5)


def test_soft_targets_are_the_next_items_and_fade() -> None:
    _, _, batch = example(ahead=3)

    whole = (batch.weight > 0).all(dim=1)  # not at the end of a window
    target, weight = batch.target[whole], batch.weight[whole]
    assert torch.equal(target, (target[:, :1] + torch.arange(3)) % ITEMS)  # the walks go step by step
    torch.testing.assert_close(weight, torch.tensor([4 / 7, 2 / 7, 1 / 7]).expand_as(weight))
    torch.testing.assert_close(batch.weight.sum(dim=1), torch.ones(len(batch.weight)))


def test_large_catalogues_get_a_sample_without_being_asked() -> None:
    assert Loss().resolved(3200, 1682).kind == "full"
    assert Loss().resolved(3200, 500_000).kind == "sampled"
    assert Loss("gbce").resolved(3200, 500_000).kind == "gbce"


def test_an_unknown_loss_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="unknown loss 'hinge': use auto, full, sampled or gbce"):
        Loss("hinge")


def test_cropping_keeps_a_stretch_and_reordering_keeps_the_items() -> None:
    random = np.random.default_rng(0)

    cropped = augment.changed(GIVEN, random, crop=1.0)
    moved = augment.changed(GIVEN, random, reorder=1.0)

    for before, stretch, other in zip(GIVEN, cropped, moved, strict=True):
        assert 2 <= len(stretch) <= max(2, 0.6 * len(before))
        assert " ".join(map(str, stretch)) in " ".join(map(str, before))
        assert sorted(other) == sorted(before)
    assert any((before != other).any() for before, other in zip(GIVEN, moved, strict=True))


def timed(*times: float) -> Histories:
    """One user who met items 0, 1, 2, … at these times."""
    return replace(from_sequences([range(len(times))], [str(n) for n in range(ITEMS)]), times=np.array(times))


def targets(given: Histories, ties: bool, ahead: int = 1) -> list[dict[int, float]]:
    """Of each position, the items and their weights."""
    shape = Shape("sasrec", ITEMS, dim=8, length=10)
    windows = batches.epoch(given, shape, np.random.default_rng(6), ahead=ahead, fading=0.5, ties=ties)
    batch = windows.batch(np.arange(1))  # of this seed the first window holds all
    return [
        {item: weight for item, weight in zip(items, weights, strict=True) if weight}
        for items, weights in zip(batch.target.tolist(), batch.weight.tolist(), strict=True)
    ]


def test_all_that_follows_at_one_time_is_one_target() -> None:
    given = timed(5, 7, 7, 7, 8)
    third = pytest.approx(1 / 3)

    assert targets(given, ties=True) == [{1: third, 2: third, 3: third}, {2: 0.5, 3: 0.5}, {3: 1}, {4: 1}]
    assert targets(given, ties=True, ahead=2)[2] == {3: pytest.approx(2 / 3), 4: third}


@pytest.mark.parametrize("ahead", [1, 2])
def test_without_ties_the_targets_are_those_of_the_plain_loss(ahead: int) -> None:
    given = timed(5, 6, 7, 8, 9)

    assert targets(given, ties=True, ahead=ahead) == targets(given, ties=False, ahead=ahead)


def test_ties_are_drawn_in_a_new_order_and_all_else_stays() -> None:
    given = timed(5, 7, 7, 7, 8, 8)
    random = np.random.default_rng(0)

    orders = {tuple(augment.tied(given, random)[0].tolist()) for _ in range(100)}

    assert len(orders) == 12
    assert all(order[0] == 0 and set(order[1:4]) == {1, 2, 3} for order in orders)
    assert augment.tied(GIVEN, random) is GIVEN


def test_times_stay_with_their_events_through_split_and_augmentation() -> None:
    train = leave_one_out(timed(5, 7, 7, 9, 9, 9, 11, 12)).train
    random = np.random.default_rng(0)

    made = [augment.changed(train, random, crop=0.5, reorder=0.5) for _ in range(20)]

    assert train.times is not None
    assert train.times.tolist() == [5, 7, 7, 9, 9, 9]
    assert all(each.times is not None and (each.times == train.times[each.flat]).all() for each in made)
    assert len({tuple(each.flat.tolist()) for each in made}) > 5


def test_a_curriculum_begins_with_the_shortest_histories() -> None:
    task = Recommending(leave_one_out(GIVEN), replace(QUICK, curriculum=2))

    targets = [int((task.epoch(number).table != ITEMS).sum()) for number in (1, 2, 3, 4)]

    assert targets[0] < targets[1] < targets[2]
    assert augment.shortest(GIVEN, 0.5).lengths.max() <= np.median(GIVEN.lengths)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "gbce"},
        {"negatives": 9},
        {"ahead": 2},
        {"smoothing": 0.1},
        {"crop": 0.5},
        {"blank": 0.1},
        {"ties": False},
    ],
)
def test_a_checkpoint_of_other_options_is_not_gone_on_from(options: dict[str, Any]) -> None:
    split = leave_one_out(GIVEN)

    assert Recommending(split, replace(QUICK, **options)).fingerprint() != Recommending(split, QUICK).fingerprint()


def test_the_second_stage_of_bert4rec_masks_the_last_items_alone() -> None:
    recipe = replace(QUICK, architecture="bert4rec", recent=1)
    split = leave_one_out(GIVEN)

    windows = Recommending(split, recipe, Recommending(split, recipe).model).epoch(1)

    assert bool((windows.hidden.sum(dim=1) == 1).all())
    last = torch.from_numpy(windows.lengths - 1)
    assert bool(windows.hidden[torch.arange(len(last)), last].all())


def test_masked_windows_of_sasrec_keep_their_answers() -> None:
    shape = Shape("sasrec", ITEMS, dim=8, length=10)
    whole = batches.epoch(GIVEN, shape, np.random.default_rng(0)).batch(np.arange(12))

    masked = batches.epoch(GIVEN, shape, np.random.default_rng(0), blank=1.0).batch(np.arange(12))

    assert torch.equal(masked.target, whole.target)
    assert torch.equal(masked.known, whole.known)
    covered = masked.rows == shape.mask
    assert 0 < int(covered.sum()) < covered.numel() / 2
    assert torch.equal(torch.where(covered, whole.rows, masked.rows), whole.rows)
