"""Distillation: losses against values made by hand, equal compute, lessons of the right texts, augmentation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.text import augment, data, lesson, students
from jobs.text.augment import MASK, augmented
from jobs.text.data import DataError, Split
from jobs.text.distil import NO_LABEL, Distillation, Lesson, TaughtBatch, hard_loss, soft_loss
from jobs.text.lesson import Texts
from tests.unit.text import tiny

Array = np.ndarray


def test_the_soft_loss_is_hintons_with_cross_entropy_only_where_a_label_is() -> None:
    student = np.array([[1.0, -1.0, 0.5], [0.0, 2.0, 1.0]])
    teacher = np.array([[2.0, 0.0, -1.0], [1.0, 1.0, 3.0]])
    temperature, alpha = 2.0, 0.7

    found = soft_loss(torch.tensor(student), torch.tensor(teacher), torch.tensor([2, NO_LABEL]), temperature, alpha)

    def chances(logits: Array) -> Array:
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    p, q = chances(teacher / temperature), chances(student / temperature)
    divergence = (p * np.log(p / q)).sum()
    wanted = alpha * temperature**2 * divergence + (1 - alpha) * -np.log(chances(student)[0, 2])
    assert float(found) == pytest.approx(wanted)


def test_the_gradient_of_soft_labels_keeps_its_size_when_the_temperature_changes() -> None:
    sizes = []
    for temperature in (20.0, 40.0):  # section 2.1 of the paper: in the limit of high temperatures
        student = torch.tensor([[0.3, -0.2, 0.1]], requires_grad=True)
        soft_loss(student, torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([NO_LABEL]), temperature, 1.0).backward()
        assert student.grad is not None
        sizes.append(float(student.grad.norm()))

    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_the_hard_loss_goes_by_the_label_where_there_is_one() -> None:
    student, teacher = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 9.0], [0.0, 9.0]])

    found = hard_loss(student, teacher, torch.tensor([0, NO_LABEL]))

    assert float(found) == pytest.approx(np.log1p(np.exp(-2)) + np.log1p(np.exp(2)))


def task(taught: Lesson | None = None, rows: int | None = None) -> Distillation:
    dataset = tiny.dataset(train=10, dev=4)
    bag = students.make("ngrams", "small", {"width": 4, "buckets": 32}, dataset.train.texts, 2)
    return Distillation(dataset, bag, taught, rows=rows)


def taught(rows: int = 25, classes: int = 2) -> Lesson:
    texts = tiny.dataset(train=10).train.texts + tuple(text for text, _ in tiny.rows(rows - 10, 5))
    labels = np.concatenate([tiny.dataset(train=10).train.labels, np.full(rows - 10, NO_LABEL)])
    return Lesson(texts, labels, np.random.default_rng(0).normal(size=(rows, classes)))


def test_without_a_teacher_an_epoch_has_as_many_examples_as_with_one() -> None:
    with_teacher, without = task(taught(25)), task(rows=25)

    assert len(with_teacher.examples.lengths) == len(without.examples.lengths) == 25
    batch = without.examples.batch(np.arange(25))
    first = without.train.batch(np.arange(10))
    assert torch.equal(batch.ids[10:20, : first.ids.shape[1]], first.ids)
    assert torch.equal(batch.labels[20:], first.labels[:5])  # type: ignore[attr-defined]


def test_each_text_of_a_batch_comes_with_what_the_teacher_says_of_it() -> None:
    given = taught(25)
    made = task(given)

    batch = made.examples.batch(np.array([24, 3]))

    assert isinstance(batch, TaughtBatch)
    assert batch.teacher is not None
    np.testing.assert_allclose(batch.teacher.numpy(), given.logits[[24, 3]], rtol=1e-6)
    assert batch.labels.tolist() == [NO_LABEL, int(given.labels[3])]
    assert made.loss(made.model, batch).ndim == 0


def test_a_checkpoint_is_of_one_way_to_learn() -> None:
    first = taught(25)
    other = replace(first, logits=first.logits + 1)

    made = {task(each).fingerprint() for each in (first, other, None)} | {task(rows=25).fingerprint()}

    assert len(made) == 4
    assert task(first).fingerprint() in made


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="the teacher knows 3 classes, tiny has 2: train a teacher on this data"):
        task(taught(classes=3))


def test_copies_are_masked_or_parts_and_the_same_for_the_same_seed() -> None:
    texts = ["the good book in the nice room", "好的书很好"] * 50

    made = augmented(texts, 3, seed=1)

    assert len(made) == 300
    assert made == augmented(texts, 3, seed=1) != augmented(texts, 3, seed=2)
    words = [text.split() for text in made[::2]]
    kept = [row for row in words if len(row) == 7]
    assert 0.6 < len(kept) / len(words) < 0.9  # a quarter is cut down to 1 to 5 words
    assert all(1 <= len(row) <= 7 for row in words)
    masked = sum(word == MASK for row in words for word in row) / sum(map(len, words))
    assert 0.05 < masked < 0.15
    for row in words:  # what is left stands in its order
        assert any(
            all(word in (MASK, whole) for word, whole in zip(row, texts[0].split()[begin:], strict=False))
            for begin in range(8 - len(row))
        )
    assert augment.augmented(["   "], 1) == ["   "]


def test_unlabelled_texts_come_once_and_never_from_a_split(tmp_path: Path) -> None:
    folder = tiny.write_folder(tmp_path / "words", train=8, dev=2)
    known = tiny.rows(2, 3)[0][0]  # of test
    (folder / "unlabelled.txt").write_text(f"new one\n\n{known}\nnew two\nnew one\n")
    dataset = data.load(str(folder))

    assert data.unlabelled(dataset) == ("new one", "new two")
    assert data.unlabelled(tiny.dataset()) == ()
    with pytest.raises(DataError, match="unlabelled: no file at '/no/such' on the machine of this worker: give one"):
        data.unlabelled(dataset, "/no/such")
    (folder / "known.txt").write_text(known)
    with pytest.raises(DataError, match=r"known.txt holds no text that is not in a split of words: write one a line"):
        data.unlabelled(dataset, str(folder / "known.txt"))


def test_logits_are_read_again_with_their_texts_and_refused_for_others(tmp_path: Path) -> None:
    texts = Texts(tiny.dataset(train=10, dev=4), ("new one", "new two"), 1, 42)
    logits = np.arange(48, dtype=np.float32).reshape(24, 2)

    lesson.write(tmp_path, logits, {"texts": texts.fingerprint()})
    found = lesson.read(tmp_path, texts, "digest")

    assert found.texts[:12] == (*texts.dataset.train.texts, "new one", "new two")
    assert (len(found.texts), found.labels[10:].tolist()) == (24, [NO_LABEL] * 14)
    np.testing.assert_array_equal(found.logits, logits)
    with pytest.raises(ValueError, match=r"are of other texts \(24 rows, here are 24 texts\): make them anew"):
        lesson.read(tmp_path, replace(texts, unlabelled=("new one", "new 2")), "digest")


def test_an_ensemble_gives_the_n_gram_model_the_weight_that_is_best_on_dev() -> None:
    texts = Texts(tiny.dataset(train=40, dev=32), tuple(text for text, _ in tiny.rows(6, 5)), 0, 42)
    nothing, on_dev = np.zeros((46, 2)), np.zeros((32, 2))
    turned = Split(texts.dataset.dev.texts, 1 - texts.dataset.dev.labels)  # of which n-grams say the contrary
    misled = replace(texts, dataset=replace(texts.dataset, dev=turned))
    grams = lesson.grams(texts, 42)
    said = grams.log_probs(turned.texts)

    logits, dev, weight = lesson.ensemble(texts, texts.all(), nothing, on_dev, grams, said)
    knows = np.eye(2)[turned.labels] * 9
    _, _, of_one_who_knows = lesson.ensemble(misled, misled.all(), nothing, knows, grams, said)

    assert weight > 0
    assert logits.shape == (46, 2)
    assert (dev.argmax(axis=1) == texts.dataset.dev.labels).mean() > 0.9
    assert of_one_who_knows == 0
