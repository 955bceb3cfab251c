"""What a teacher says of texts: computed once, kept as an artifact, and read by every student that learns from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from broker.errors import summary
from jobs.text import augment, baseline, data
from jobs.text.baseline import Baseline
from jobs.text.data import Dataset
from jobs.text.distil import NO_LABEL, Lesson
from jobs.text.metrics import measure, softmax
from jobs.training import manifest

Array = np.ndarray[Any, Any]
Said = Callable[[Sequence[str]], Array]  # (N, C) logits of N texts

KIND = "teacher logits"
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # of the n-gram model in an ensemble, from which dev chooses
_FILE = "logits.npy"


@dataclass(frozen=True)
class Texts:
    """All that a teacher is asked: the texts of train, those without labels, then augmented copies of both."""

    dataset: Dataset
    unlabelled: tuple[str, ...]
    copies: int
    seed: int

    @property
    def plain(self) -> tuple[str, ...]:
        return self.dataset.train.texts + self.unlabelled

    def all(self) -> tuple[str, ...]:
        return self.plain + tuple(augment.augmented(self.plain, self.copies, self.seed))

    def labels(self) -> Array:
        """(N,) int64, NO_LABEL for what is without, copies included: they may have lost what made the label right."""
        rest = len(self.plain) * (1 + self.copies) - len(self.dataset.train)
        return np.concatenate([self.dataset.train.labels, np.full(rest, NO_LABEL, dtype=np.int64)])

    def fingerprint(self) -> str:
        """sha256 of what a teacher is asked, in its order, and of the texts and labels that an ensemble learns from."""
        digest = hashlib.sha256(f"{self.dataset.fingerprint()}\0{self.copies}\0{self.seed}".encode())
        for text in self.unlabelled:
            digest.update(f"\0{text}".encode())
        return digest.hexdigest()


def gather(dataset: Dataset, file: str | None, copies: int, seed: int) -> Texts:
    """Raises DataError for unlabelled texts that are named and not there."""
    return Texts(dataset, data.unlabelled(dataset, file), copies, seed)


def ensemble(
    texts: Texts, everything: Sequence[str], teacher: Array, on_dev: Array, model: Baseline, dev_grams: Array
) -> tuple[Array, Array, float]:
    """(N, C) and (D, C) log-probabilities of the teacher with an n-gram model beside it, and that one's weight.

    Their weighted geometric mean (a product of experts, Hinton 2002), log p(teacher) + weight * log p(n-grams) over
    1 + weight, whose weight is the best of WEIGHTS on dev. Without the division it is surer than either, and taught a
    bag 0.4 points less. `dev_grams`: (D, C) what the n-gram model says of dev. It would know the texts of train by
    heart, so those get what models say of them that did not see them.
    """
    dataset, classes = texts.dataset, len(texts.dataset.classes)
    teacher_log, dev_log = _log(teacher), _log(on_dev)
    weight = max(WEIGHTS, key=lambda each: _worth(_mean(dev_log, dev_grams, each), dataset.dev.labels))
    if not weight:
        return teacher_log, dev_log, 0.0
    crossed = baseline.crossed(dataset.train.texts, dataset.train.labels, classes, seed=model.seed)
    grams = np.concatenate([crossed, model.log_probs(everything[len(dataset.train) :])])
    return _mean(teacher_log, grams, weight), _mean(dev_log, dev_grams, weight), weight


def grams(texts: Texts, seed: int) -> Baseline:
    """The n-gram model for `ensemble`, of the texts of train."""
    train = texts.dataset.train
    return baseline.fit(train.texts, train.labels, len(texts.dataset.classes), seed)


def write(folder: Path, logits: Array, facts: dict[str, Any]) -> None:
    """`facts`: what the logits are of; `find` in the job looks for the same ones."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / _FILE, logits.astype(np.float32), allow_pickle=False)
    manifest.write(folder, {"kind": KIND, "rows": len(logits), "classes": logits.shape[1], **facts}, ("numpy",))


def read(folder: Path, texts: Texts, digest: str) -> Lesson:
    """Raises ValueError where the logits are not of these texts."""
    try:
        facts = manifest.read(folder)
        logits = np.load(folder / _FILE, allow_pickle=False)
        asked, wanted = facts["texts"], len(texts.plain) * (1 + texts.copies)
    except (OSError, KeyError, ValueError) as error:
        said = summary(error)
        raise ValueError(f"{digest[:12]} holds no teacher's logits ({said}): make them with classify.label") from error
    if asked != texts.fingerprint() or len(logits) != wanted:
        said = f"{len(logits):,} rows, here are {wanted:,} texts"
        raise ValueError(f"the logits {digest[:12]} are of other texts ({said}): make them anew with classify.label")
    return Lesson(texts.all(), texts.labels(), logits, digest)


def in_parts(said: Said, texts: Sequence[str], rows: int) -> Iterable[Array]:
    """(rows, C) logits of so many texts at a time, so that the caller can tell how far it is."""
    for begin in range(0, len(texts), rows):
        yield said(texts[begin : begin + rows])


def _mean(teacher: Array, grams: Array, weight: float) -> Array:
    return np.asarray((teacher + weight * grams) / (1 + weight), dtype=np.float32)


def _log(logits: Array) -> Array:
    return np.log(np.maximum(softmax(logits), 1e-12)).astype(np.float32)


def _worth(logits: Array, labels: Array) -> tuple[float, float]:
    measured = measure(logits, labels)
    return measured["accuracy"], -measured["nll"]
