"""The teacher: a transformer that learns to classify texts, for the training engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from jobs.text.data import Dataset
from jobs.text.encoder import Encoder
from jobs.text.learner import LENGTH, Learner
from jobs.text.network import Classifier
from jobs.text.tokens import TextBatch
from jobs.training import frozen
from jobs.training.task import Batch, Examples

_KEPT_BYTES = 2**28


class Teacher(Learner):
    """An encoder with a head, of which the lower layers may be frozen."""

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
        max_length = max_length or min(LENGTH, encoder.longest)
        if max_length > encoder.longest:
            raise ValueError(f"max_length={max_length}: {encoder.name} reads at most {encoder.longest} tokens")
        torch.manual_seed(seed)  # the head's weights
        try:
            model = Classifier(encoder.model, len(data.classes), freeze, dropout)
        except ValueError as error:
            raise ValueError(f"encoder {encoder.name!r}: {error}") from None
        size = encoder.model.config
        shape = f"{size.num_hidden_layers}x{size.hidden_size}, {freeze} frozen, {max_length} tokens"
        name = f"{size.model_type} classifier of {shape}"
        super().__init__(
            name, data, model, encoder.tokenizer, sizes(encoder.model), max_length=max_length, prefix=prefix
        )
        self.encoder, self.has_frozen, self.layer_decay, self.freeze = encoder, freeze > 0, layer_decay, freeze

    @cached_property
    def held(self) -> Examples:
        """dev, with what the frozen layers make of it, which is the same each epoch; without where it is too much."""
        size = int(self.dev.lengths.sum()) * self.encoder.model.config.hidden_size * 2  # float16
        if not self.has_frozen or size > _KEPT_BYTES:
            return self.dev
        return frozen.cached(self, self.dev, next(self.model.parameters()).device)

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

    def recipe(self) -> dict[str, Any]:
        return {"freeze": self.freeze, "layer_decay": self.layer_decay}


def sizes(encoder: nn.Module) -> dict[str, Any]:
    """What a manifest says of a transformer."""
    config = encoder.config
    named = {"layers": "num_hidden_layers", "width": "hidden_size", "heads": "num_attention_heads"}
    return {"kind": "transformer"} | {name: getattr(config, key, None) for name, key in named.items()}
