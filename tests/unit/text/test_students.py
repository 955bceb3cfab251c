"""Students' networks: padding changes nothing, n-grams are of an order, ONNX computes the same, sizes are as said."""

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from jobs.text import students
from jobs.text.network import Classifier
from jobs.text.ngrams import NgramBag
from tests.unit.text import tiny

TEXTS = [text for text, _ in tiny.rows(30, 1)]
KINDS = ("ngrams", "bilstm", "ngrams+bilstm", "transformer")


def make(kind: str, seed: int = 42) -> students.Student:
    return students.make(kind, "small", {}, TEXTS, 3, seed)


def batch(vocabulary: int) -> tuple[Tensor, Tensor]:
    """(4, 9) ids of lengths 9, 1, 4 and 2, padded with zeros, and their mask."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(1, vocabulary, (4, 9)))
    mask = (torch.arange(9) < torch.tensor([9, 1, 4, 2])[:, None]).long()
    return ids * mask, mask


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_change_what_a_student_says(kind: str) -> None:
    student = make(kind)
    model = student.model.eval()
    ids, mask = batch(len(student.tokenizer))

    together = model(ids, mask)
    alone = torch.cat(
        [model(row[None, :n], seen[None, :n]) for row, seen, n in zip(ids, mask, mask.sum(1), strict=True)]
    )
    other = model(torch.where(mask == 1, ids, 5), mask)  # whatever stands where there is no token

    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "transformer"])  # whose export is another test's
def test_onnx_runtime_computes_what_torch_does_for_any_batch_and_length(kind: str) -> None:
    student, made = make(kind), io.BytesIO()
    ids, mask = batch(len(student.tokenizer))
    axes = {"ids": {0: "batch", 1: "length"}, "mask": {0: "batch", 1: "length"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            student.model.eval(), (ids, mask), made, dynamo=False, opset_version=17, dynamic_axes=axes,
            input_names=["ids", "mask"], output_names=["logits"],
        )  # fmt: skip
    session = onnxruntime.InferenceSession(made.getvalue())

    for rows, width in ((4, 9), (1, 1), (2, 4)):
        part = ids[:rows, :width], mask[:rows, :width]
        (found,) = session.run(None, {"ids": part[0].numpy(), "mask": part[1].numpy()})
        np.testing.assert_allclose(found, student.model(*part).detach().numpy(), atol=1e-5)


def test_n_grams_are_of_an_order_and_their_rows_are_in_the_table() -> None:
    bag = NgramBag(vocabulary=30_000, classes=2, width=4, buckets=1000)
    ids = torch.tensor([[29_999, 29_998, 7, 29_999, 29_998], [29_998, 29_999, 7, 0, 0]])

    rows, real = bag.rows(ids, torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]))

    singles, pairs, triples = rows.split(5, dim=1)
    assert singles.tolist() == ids.tolist()
    assert pairs[0, 0] == pairs[0, 3] != pairs[1, 0]  # "a b" again, and "b a"
    assert int(pairs.min()) >= 30_000 <= int(triples.min())
    assert int(rows.max()) < 31_000
    assert real.sum(dim=1).tolist() == [5 + 4 + 3, 3 + 2 + 1]


def test_the_hash_spreads_over_the_buckets() -> None:
    bag = NgramBag(vocabulary=100, classes=2, width=1, buckets=64)
    pairs = torch.cartesian_prod(torch.arange(1, 81), torch.arange(1, 81))

    rows, _ = bag.rows(pairs, torch.ones_like(pairs))

    counts = torch.bincount(rows[:, 2] - 100, minlength=64)  # the first pair of each row: 6,400 in 64 buckets
    assert 60 < counts.min() <= counts.max() < 140


def test_the_same_seed_gives_the_same_student_and_texts_in_another_order_the_same_vocabulary() -> None:
    one, same = make("ngrams"), students.make("ngrams", "small", {}, TEXTS[::-1], 3)
    other = make("ngrams", seed=1)

    assert one.tokenizer.get_vocab() == same.tokenizer.get_vocab()
    for (name, weight), again in zip(one.model.named_parameters(), same.model.parameters(), strict=True):
        assert torch.equal(weight, again), name
    assert not torch.equal(next(one.model.parameters()), next(other.model.parameters()))


def test_numbers_take_the_place_of_a_sizes_and_unknown_ones_are_refused() -> None:
    made = students.make("bilstm", "small", {"width": 8, "hidden": 4}, TEXTS, 3)

    words = len(made.tokenizer)
    assert made.parameters == words * 8 + 2 * (4 * 4 * (8 + 4) + 2 * 4 * 4) + (2 * 4 * 3 + 3)
    assert made.network | {"vocabulary": 0} == {"kind": "bilstm", "vocabulary": 0, "width": 8, "hidden": 4}
    assert students.network(made.network, 3).state_dict().keys() == made.model.state_dict().keys()
    with pytest.raises(ValueError, match="a student of kind 'bilstm' has no buckets: it has dropout, hidden, width, w"):
        students.make("bilstm", "small", {"buckets": 8}, TEXTS, 3)


def test_a_student_of_the_teachers_first_layers_begins_as_the_teacher_does() -> None:
    teacher = Classifier(tiny.encoder(layers=3).model, 2).eval()
    ids, mask = batch(10)

    made = students.first_layers("small", {}, teacher, tiny.tokenizer())

    assert (made.network["layers"], made.network["kind"]) == (2, "transformer")
    assert made.parameters < sum(each.numel() for each in teacher.parameters())
    whole = teacher.upper(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    cut = made.model.eval().upper(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(cut, whole[2])
    assert torch.equal(made.model.head.weight, teacher.head.weight)
    with pytest.raises(ValueError, match="layers=3: the teacher has 3: give at least 1 and fewer than that"):
        students.first_layers("small", {"layers": 3}, teacher, tiny.tokenizer())
