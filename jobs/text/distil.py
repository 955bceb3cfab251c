"""Distillation: a student that learns from its teacher's logits, or from labels alone, for the training engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.text.data import Dataset, Split
from jobs.text.learner import LENGTH, Learner
from jobs.text.students import Student
from jobs.text.tokens import TextBatch, Tokens
from jobs.training.task import Batch, Examples

Array = np.ndarray[Any, Any]
Labels = Literal["soft", "hard"]

NO_LABEL = -1


@dataclass(frozen=True)
class Lesson:
    """What a teacher says of texts, those of train first."""

    texts: tuple[str, ...]
    labels: Array  # (N,) int64, NO_LABEL where only the teacher knows
    logits: Array  # (N, C) float32
    digest: str = ""  # of the artifact that they were read from


@dataclass(frozen=True)
class TaughtBatch(TextBatch):
    """Texts with what the teacher says of them."""

    teacher: Tensor | None = None  # (B, C) its logits


@dataclass(frozen=True)
class Taught:
    """The examples of a distillation."""

    tokens: Tokens
    logits: Tensor  # (N, C)

    @property
    def lengths(self) -> Array:
        return self.tokens.lengths

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + self.logits.nbytes

    def to(self, device: torch.device) -> Taught:
        return Taught(self.tokens.to(device), self.logits.to(device))

    def batch(self, rows: Array) -> TaughtBatch:
        plain = self.tokens.batch(rows)
        chosen = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)).to(self.logits.device)
        return TaughtBatch(
            **{field.name: getattr(plain, field.name) for field in fields(plain)}, teacher=self.logits[chosen]
        )


class Distillation(Learner):
    """A student's training: from `lesson`, or without a teacher from the labels of train."""

    role = "student"

    def __init__(
        self,
        data: Dataset,
        student: Student,
        lesson: Lesson | None = None,
        *,
        labels: Labels = "soft",
        temperature: float = 2.0,
        alpha: float = 0.7,
        rows: int | None = None,
        max_length: int = LENGTH,
        prefix: str = "",
    ) -> None:
        """`labels`: the teacher's probabilities, or its most likely class alone. `rows`: see `repeated`.

        Raises ValueError for a lesson of other classes.
        """
        if lesson is not None and lesson.logits.shape[1] != len(data.classes):
            said = f"the teacher knows {lesson.logits.shape[1]} classes, {data.name} has {len(data.classes)}"
            raise ValueError(f"{said}: train a teacher on this data")
        super().__init__(
            student.name, data, student.model, student.tokenizer, student.network, max_length=max_length, prefix=prefix
        )
        self.lesson, self.labels, self.temperature, self.alpha, self.rows = lesson, labels, temperature, alpha, rows

    @cached_property
    def examples(self) -> Examples:
        """Those of an epoch."""
        if self.lesson is None:
            return repeated(self.train, self.rows) if self.rows else self.train
        tokens = self.tokens(Split(self.lesson.texts, self.lesson.labels))
        return Taught(tokens, torch.from_numpy(np.asarray(self.lesson.logits, dtype=np.float32)))

    def epoch(self, number: int) -> Examples:
        return self.examples

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        texts = cast(TaughtBatch, batch)
        logits = model(texts.ids, texts.mask, texts.features).float()  # (B, C)
        if self.lesson is None:
            return functional.cross_entropy(logits, texts.labels, reduction="sum")
        assert texts.teacher is not None  # for the type checker
        if self.labels == "hard":
            return hard_loss(logits, texts.teacher, texts.labels)
        return soft_loss(logits, texts.teacher, texts.labels, self.temperature, self.alpha)

    def fingerprint(self) -> str:
        of = [self.name, self.data.fingerprint(), self.network, self.max_length, self.prefix, self.rows, self.recipe()]
        if self.lesson is not None:
            of.append(hashlib.sha256(np.ascontiguousarray(self.lesson.logits).tobytes()).hexdigest())
        return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()

    def recipe(self) -> dict[str, Any]:
        if self.lesson is None:
            return {"labels": "gold"}
        how: Mapping[str, Any] = {"temperature": self.temperature, "alpha": self.alpha}
        unlabelled = int((self.lesson.labels == NO_LABEL).sum())
        return {"labels": self.labels, "unlabelled": unlabelled, **(how if self.labels == "soft" else {})}


def soft_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float) -> Tensor:
    """() sum of alpha T^2 KL(teacher/T || student/T) + (1 - alpha) CE(labels) over (B, C) logits and (B,) labels.

    Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network (arXiv 1503.02531), section 2: T^2 keeps
    the share of the soft targets when T changes. Where there is no label, there is no cross entropy.
    """
    wanted = functional.log_softmax(teacher / temperature, dim=1)
    given = functional.log_softmax(student / temperature, dim=1)
    taught = functional.kl_div(given, wanted, log_target=True, reduction="sum") * temperature**2
    told = functional.cross_entropy(student, labels, ignore_index=NO_LABEL, reduction="sum")
    return alpha * taught + (1 - alpha) * told


def hard_loss(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """() sum of the cross entropy with the label, or where there is none with the teacher's most likely class."""
    wanted = torch.where(labels == NO_LABEL, teacher.argmax(dim=1), labels)
    return functional.cross_entropy(student, wanted, reduction="sum")


def repeated(tokens: Tokens, rows: int) -> Tokens:
    """The examples one after another, again from the first, until there are so many.

    So an epoch without a teacher takes as many steps as one with unlabelled texts: equal compute.
    """
    chosen = torch.arange(rows) % len(tokens.lengths)
    return replace(
        tokens, starts=tokens.starts[chosen], counts=tokens.counts[chosen], labels=tokens.labels[chosen],
        lengths=tokens.lengths[chosen.numpy()],
    )  # fmt: skip
