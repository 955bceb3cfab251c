"""The recovery after a cut: a short training in which the pruned network learns from the one that it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jobs.compress import unstructured
from jobs.compress.gate import stratified
from jobs.text.artifact import Loaded
from jobs.text.data import Dataset, Split, unlabelled
from jobs.text.distil import NO_LABEL, Distillation, Lesson, Taught
from jobs.text.metrics import measure
from jobs.text.students import Student
from jobs.training import engine
from jobs.training.engine import Fitted
from jobs.training.options import Acceleration
from jobs.training.task import Batch, Plan

Array = np.ndarray[Any, Any]

BATCH = 16
_VALIDATED = 1000  # texts: the recovery's time is better spent on steps
_EPOCHS, _GRADUAL = 1, 6  # parts, after each of which dev is looked at; when the rate has fallen the last is the best
_MARGIN = 1.2  # of the time that is estimated: the optimizer's share, and what disturbs


class Recovery(Distillation):
    """KL to the logits of the network before the cut; examples dealt out over the epochs."""

    role = "compressed"
    fixed = False
    metric = "score"

    def __init__(
        self, source: Loaded, data: Dataset, model: nn.Module, lesson: Lesson | None, network: dict[str, Any],
        *, rows: int = 0, epochs: int = _EPOCHS, gradual: float | None = None, how: str = "pruned",
        tell: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """rows: texts that are learned from in all epochs together. gradual: the share of zeros to grow to.

        how: what was done to the network, for its name. tell: called at each step.
        """
        asked = source.manifest["reading"]
        name = f"{source.manifest['architecture']}, {how}"
        student = Student(name, model, source.tokenizer, network)
        reading = {"max_length": asked["max_length"], "prefix": asked["prefix"]}
        super().__init__(data, student, lesson, alpha=1.0, **reading)
        self._dealt, self._epochs, self._gradual, self._tell = rows, epochs, gradual, tell

    @cached_property
    def _sample(self) -> Split:
        return stratified(self.data.dev, _VALIDATED)

    @cached_property
    def _sample_tokens(self) -> Any:
        return self.tokens(self._sample)

    def epoch(self, number: int) -> Taught:
        if self._gradual is not None:
            unstructured.set_zeros(self.model, unstructured.cubic(number, self._epochs, self._gradual), number)
        taught = self.examples
        assert isinstance(taught, Taught)  # for the type checker
        size, count = max(1, self._dealt // self._epochs), len(taught.lengths)
        order = np.concatenate([
            np.random.default_rng(seed).permutation(count) for seed in range(-(-number * size // count))
        ])  # fmt: skip
        return _part(taught, order[(number - 1) * size : number * size])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self._tell()
        return super().loss(model, batch)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """`score` is the accuracy, less what is missing of the zeros: an epoch before they are all there is not it."""
        found = measure(self.logits(model, self._sample_tokens), self._sample.labels)
        missing = 0.0 if self._gradual is None else self._gradual - _masked(model)
        return found | {"score": found["accuracy"] - (missing if missing > 1e-3 else 0.0)}


def lesson(source: Loaded, data: Dataset, rows: int, seed: int = 42) -> Lesson:
    """What the network says of at most so many texts, of train and without labels: of those of train it is too sure."""
    texts = (*data.train.texts, *unlabelled(data))
    labels = np.concatenate([data.train.labels, np.full(len(texts) - len(data.train), NO_LABEL, dtype=np.int64)])
    chosen = np.sort(np.random.default_rng(seed).permutation(len(texts))[:rows])
    asked = tuple(texts[row] for row in chosen)
    return Lesson(asked, labels[chosen], source.logits(asked))


def affordable(source: Loaded, model: nn.Module, data: Dataset, seconds: float, device: torch.device) -> int:
    """How many texts the model can learn from in this time, by the time of a few; at least one batch."""
    sample = stratified(data.train, 8 * BATCH)
    task = Recovery(source, Dataset("", source.classes, sample, sample, None), model, None, {})
    tokens = task.tokens(sample)
    order = np.argsort(tokens.lengths)
    parts = [order[begin : begin + BATCH] for begin in range(0, len(order), BATCH)]
    model.to(device).train()
    took = []
    for number, rows in enumerate([parts[0], *parts]):
        batch = tokens.batch(rows).to(device)
        begin = time.perf_counter()
        Distillation.loss(task, model, batch).backward()
        if number:  # the first one loads and allocates
            took.append(time.perf_counter() - begin)
    model.zero_grad()
    looked_at = _EPOCHS * min(_VALIDATED, len(data.dev)) / 3  # a forward pass is a third of a step
    return max(BATCH, int(seconds / _MARGIN / (sum(took) / len(sample)) - looked_at))


def _part(taught: Taught, rows: Array) -> Taught:
    tokens, chosen = taught.tokens, torch.from_numpy(rows)
    part = replace(
        tokens, starts=tokens.starts[chosen], counts=tokens.counts[chosen], labels=tokens.labels[chosen],
        lengths=tokens.lengths[rows],
    )  # fmt: skip
    return Taught(part, taught.logits[chosen])


def _masked(model: nn.Module) -> float:
    masks = [each.mask for each in model.modules() if isinstance(each, unstructured.Masked)]
    return 1 - sum(float(each.sum()) for each in masks) / max(1, sum(each.numel() for each in masks))


def recover(
    source: Loaded, data: Dataset, model: nn.Module, lesson: Lesson, rows: int, options: Acceleration,
    device: torch.device, *, rate: float, seed: int = 42, gradual: float | None = None, how: str = "pruned",
    tell: Callable[[], None] = lambda: None,
) -> tuple[Recovery, Fitted, Plan]:  # fmt: skip
    """Trains the model in place on so many texts, dropout off, the embeddings as they are.

    What it learns from is sharper than labels, and the time short: dropout would only slow it down.
    """
    epochs = _GRADUAL if gradual is not None else _EPOCHS
    embeddings = getattr(getattr(model, "upper", None), "embeddings", None)
    rates = {layer: layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)}
    network = source.manifest.get("network", {"kind": "transformer"})
    task = Recovery(source, data, model, lesson, network, rows=rows, epochs=epochs, gradual=gradual, how=how, tell=tell)
    plan = Plan(epochs=epochs, patience=None, batch=BATCH, rate=rate, betas=(0.9, 0.98), seed=seed)
    try:
        for layer in rates:
            layer.p = 0.0
        if embeddings is not None:
            embeddings.requires_grad_(False)
        fitted = engine.fit(task, plan, options, device)
    finally:
        for layer, before in rates.items():
            layer.p = before
        model.requires_grad_(True)
    return task, fitted, plan
