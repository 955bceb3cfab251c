"""The teacher: a transformer that learns to classify texts, for the training engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from jobs.text import infer
from jobs.text.data import Dataset, Split
from jobs.text.encoder import Encoder
from jobs.text.metrics import measure
from jobs.text.network import Classifier
from jobs.text.tokens import TextBatch, Tokens, tokenize
from jobs.training import frozen
from jobs.training.task import Batch, Examples, Task

_LENGTH = 128
_KEPT_BYTES = 2**28


class Teacher(Task):
    """Cross entropy over the classes of each text; validated by accuracy on dev."""

    metric = "accuracy"
    fixed = True

    def __init__(
        self,
        data: Dataset,
        encoder: Encoder,
        *,
        freeze: int = 0,
        layer_decay: float = 1.0,
        max_length: int | None = None,
        dropout: float = 0.1,
        prefix: str = "",
        seed: int = 42,
    ) -> None:
        """The encoder becomes part of the model.

        freeze: layers from below that stay as they are, with the embeddings. layer_decay: the learning rate of a
        layer as a share of that of the layer above. max_length: tokens of a text that are read, 128 or fewer where the
        encoder reads fewer. prefix: comes before each text, as some encoders ask. Raises ValueError for what the
        encoder cannot do.
        """
        max_length = max_length or min(_LENGTH, encoder.longest)
        if max_length > encoder.longest:
            raise ValueError(f"max_length={max_length}: {encoder.name} reads at most {encoder.longest} tokens")
        torch.manual_seed(seed)  # the head's weights
        self.data, self.encoder, self.has_frozen = data, encoder, freeze > 0
        self.max_length, self.prefix, self.layer_decay, self.freeze = max_length, prefix, layer_decay, freeze
        self.model: Classifier = Classifier(encoder.model, len(data.classes), freeze, dropout)
        size = encoder.model.config
        shape = f"{size.num_hidden_layers}x{size.hidden_size}, {freeze} frozen, {max_length} tokens"
        self.name = f"{size.model_type} classifier of {shape}"

    @cached_property
    def train(self) -> Tokens:
        return self.tokens(self.data.train)

    @cached_property
    def dev(self) -> Tokens:
        return self.tokens(self.data.dev)

    @cached_property
    def held(self) -> Examples:
        """dev, with what the frozen layers make of it, which is the same each epoch; without where it is too much."""
        size = int(self.dev.lengths.sum()) * self.encoder.model.config.hidden_size * 2  # float16
        if not self.has_frozen or size > _KEPT_BYTES:
            return self.dev
        return frozen.cached(self, self.dev, next(self.model.parameters()).device)

    def tokens(self, split: Split) -> Tokens:
        texts = [self.prefix + text for text in split.texts] if self.prefix else split.texts
        return tokenize(self.encoder.tokenizer, texts, split.labels, self.max_length)

    def epoch(self, number: int) -> Tokens:
        return self.train

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        texts = cast(TextBatch, batch)
        logits = model(texts.ids, texts.mask, texts.features)  # (B, C)
        return torch.nn.functional.cross_entropy(logits, texts.labels, reduction="sum")

    def validate(self, model: nn.Module) -> dict[str, float]:
        return measure(self.logits(model, self.held), self.data.dev.labels)

    def logits(self, model: nn.Module, tokens: Examples) -> np.ndarray[Any, Any]:
        """(N, C) float32 in the order of the texts."""
        device = next(model.parameters()).device
        return infer.logits(model, tokens, self.batcher(f"{self.name}, inference", device))

    def fingerprint(self) -> str:
        config = self.encoder.model.config.to_dict()
        of = [self.name, self.data.fingerprint(), self.encoder.name, self.prefix, self.layer_decay, config]
        return hashlib.sha256(json.dumps(of, sort_keys=True, default=str).encode()).hexdigest()

    def groups(self, rate: float) -> Iterable[dict[str, Any]]:
        """A group for each learning rate: the head and the highest layer `rate`, each layer below a share of it.

        Discriminative fine-tuning: Howard and Ruder 2018 (ULMFiT), section 3.2; for BERT, Sun et al. 2019, How to
        Fine-Tune BERT for Text Classification, section 5.3.4.
        """
        layers = self.model.layers or ()
        steps = {id(p): len(layers) - 1 - number for number, layer in enumerate(layers) for p in layer.parameters()}
        if (embeddings := getattr(self.model.upper, "embeddings", None)) is not None:
            steps |= {id(p): len(layers) for p in embeddings.parameters()}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                below = steps.get(id(parameter), 0)  # layers between it and the head
                groups.setdefault(rate * self.layer_decay**below, []).append(parameter)
        return [{"params": found, "lr": each} for each, found in sorted(groups.items(), reverse=True)]

    def blocks(self) -> Sequence[nn.Module]:
        return self.model.layers or ()

    def features(self, batch: Batch) -> Tensor:
        texts = cast(TextBatch, batch)
        return self.model.features(texts.ids, texts.mask)
