"""Identities that SASRec and BERT4Rec must fulfil, whatever their weights."""

import numpy as np
import pytest
import torch

from jobs.recommend.batches import epoch, windows
from jobs.recommend.histories import from_sequences
from jobs.recommend.model import ARCHITECTURES, Dropout, Recommender, Shape, pack
from jobs.training.order import batches
from tests.unit.recommend.synthetic import histories


def model(architecture: str, **options: int) -> Recommender:
    torch.manual_seed(0)
    shape = Shape(architecture, items=20, dim=16, blocks=2, heads=2, length=8, **options)
    network = Recommender(shape).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def test_sasrec_never_looks_ahead() -> None:
    network = model("sasrec")
    row = torch.tensor([[1, 2, 3, 4, 5]])
    other = torch.tensor([[1, 2, 3, 9, 9]])

    assert torch.allclose(network(row)[0, :3], network(other)[0, :3], atol=1e-6)
    assert not torch.allclose(network(row)[0, 3], network(other)[0, 3], atol=1e-3)


def test_bert4rec_looks_both_ways() -> None:
    network = model("bert4rec")
    mask = network.shape.mask

    first = network(torch.tensor([[1, mask, 3]]))[0, 1]

    assert not torch.allclose(first, network(torch.tensor([[1, mask, 4]]))[0, 1], atol=1e-3)
    assert not torch.allclose(first, network(torch.tensor([[2, mask, 3]]))[0, 1], atol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_nothing(architecture: str) -> None:
    network = model(architecture)
    pad = network.shape.pad

    plain = network(torch.tensor([[3, 1, 2]]))
    padded = network(torch.tensor([[3, 1, 2, pad, pad]]))

    assert torch.allclose(plain[0], padded[0, :3], atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("blocks", [1, 2])
def test_the_last_position_alone_equals_the_last_of_all_positions(architecture: str, blocks: int) -> None:
    torch.manual_seed(1)
    network = Recommender(Shape(architecture, items=20, dim=16, blocks=blocks, length=8)).eval()
    rows, last = pack([np.array([1, 2, 3]), np.arange(12), np.array([7])], network.shape)

    alone = network.next_scores(rows, last)
    of_all = network(rows)[torch.arange(3), last]

    assert torch.allclose(alone, of_all, atol=1e-6)


def test_dropout_drops_its_share_and_keeps_the_mean_in_training_alone() -> None:
    dropout, x = Dropout(0.3), torch.ones(1001, 999, requires_grad=True)

    made = dropout(x)
    (gradient,) = torch.autograd.grad(made.sum(), x)

    assert float((made == 0).float().mean()) == pytest.approx(0.3, abs=0.002)
    assert float(made.detach().mean()) == pytest.approx(1, abs=0.002)
    assert all(float((made[:, n::8] == 0).float().mean()) == pytest.approx(0.3, abs=0.005) for n in range(8))
    assert torch.equal(gradient, made)
    assert torch.equal(dropout.eval()(x), x)


def test_dropout_is_drawn_from_torchs_generator() -> None:
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(Dropout(0.5)(torch.ones(5, 7)))

    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_a_long_history_is_cut_to_its_end_and_bert4rec_leaves_room_for_the_mask() -> None:
    sasrec, bert = Shape("sasrec", 20, length=3), Shape("bert4rec", 20, length=3)
    history = [np.array([1, 2, 3, 4]), np.array([5])]

    assert pack(history, sasrec)[0].tolist() == [[2, 3, 4], [5, 20, 20]]
    assert pack(history, bert)[0].tolist() == [[3, 4, 21], [5, 21, 20]]
    assert pack(history, bert)[1].tolist() == [2, 1]


def test_an_unknown_model_is_named_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="unknown model 'gru': use sasrec or bert4rec"):
        Shape("gru", 20)


def test_windows_hold_every_event_once_and_in_order() -> None:
    given = histories()

    table = windows(given, 7, np.random.default_rng(3), pad=99)

    rows = [row[row != 99].tolist() for row in table]
    assert [item for row in rows for item in row] == given.flat.tolist()
    assert all(len(row) <= 7 for row in rows)


def test_sasrec_rows_have_the_next_item_as_target_and_close_what_was_read() -> None:
    given = from_sequences([[4, 7, 2]], [str(n) for n in range(9)])
    shape = Shape("sasrec", 9, length=8)

    made = (epoch(given, shape, np.random.default_rng(seed)) for seed in range(50))
    batch = next(windows.batch(np.arange(len(windows.lengths))) for windows in made if len(windows.lengths))

    read = batch.rows.flatten()[batch.place].tolist()
    follows = {4: 7, 7: 2}
    assert batch.target.tolist() == [[follows[item]] for item in read]
    assert not (batch.known == batch.target).any()


def test_bert4rec_targets_are_what_the_masks_hide() -> None:
    given, shape = histories(), Shape("bert4rec", 40, length=10)

    made = epoch(given, shape, np.random.default_rng(0))
    for rows in batches(made.lengths, 16, np.random.default_rng(0)):
        batch = made.batch(rows)
        assert (batch.rows.flatten()[batch.place] == shape.mask).all()
        assert int((batch.rows == shape.mask).sum()) == len(batch.target)
        assert not (batch.known == batch.target).any()
        assert not (batch.known == shape.mask).any()
