"""What learns to classify texts: the part of a training that teachers and students have in common."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from jobs.text import infer, metrics
from jobs.text.data import Dataset, Split
from jobs.text.tokens import TextBatch, Tokens, tokenize
from jobs.training.task import Batch, Examples, Task

LENGTH = 128  # tokens of a text that are read, if nothing else is said
PERFECT = 5  # epochs without an error on dev, one after another, after which there is nothing left to see


class Learner(Task):
    """Cross entropy over the classes of each text; validated by accuracy on dev, among equals by likelihood."""

    metric = "accuracy"
    ceiling = 1.0
    tie = "nll"  # few texts in dev: many epochs have the same accuracy
    fixed = True
    role: ClassVar[str] = "teacher"

    def __init__(
        self,
        name: str,
        data: Dataset,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        network: dict[str, Any],
        *,
        max_length: int = LENGTH,
        prefix: str = "",
    ) -> None:
        """`network`: what a manifest says of the model's kind and sizes. `prefix`: comes before each text."""
        self.name, self.data, self.tokenizer, self.network = name, data, tokenizer, network
        self.max_length, self.prefix = max_length, prefix
        self.model: Any = model

    @cached_property
    def train(self) -> Tokens:
        return self.tokens(self.data.train)

    @cached_property
    def dev(self) -> Tokens:
        return self.tokens(self.data.dev)

    @property
    def held(self) -> Examples:
        """dev, as `validate` reads it each epoch."""
        return self.dev

    def tokens(self, split: Split) -> Tokens:
        return tokenize(self.tokenizer, split.texts, split.labels, self.max_length, self.prefix)

    def epoch(self, number: int) -> Examples:
        return self.train

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        texts = cast(TextBatch, batch)
        logits = model(texts.ids, texts.mask, texts.features)  # (B, C)
        return torch.nn.functional.cross_entropy(logits, texts.labels, reduction="sum")

    def validate(self, model: nn.Module) -> dict[str, float]:
        return metrics.measure(self.logits(model, self.held), self.data.dev.labels)

    def logits(self, model: nn.Module, tokens: Examples) -> np.ndarray[Any, Any]:
        """(N, C) float32 in the order of the texts."""
        device = next(model.parameters()).device
        return infer.logits(model, tokens, self.batcher(f"{self.name}, inference", device))

    def measured(self) -> dict[str, dict[str, Any]]:
        """What the registry keeps of the splits that were not learned from: "dev", and "test" where there is one."""
        splits = {name: split for name, split in self.data.splits().items() if name != "train"}
        tokens = {name: self.dev if name == "dev" else self.tokens(split) for name, split in splits.items()}
        return {name: metrics.measured(self.logits(self.model, tokens[name]), splits[name].labels) for name in splits}

    def recipe(self) -> dict[str, Any]:
        """What a manifest says of how it learned, beside the plan: JSON values."""
        return {}
