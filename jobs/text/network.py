"""An encoder with a classification head, cut in two where its frozen lower layers end."""

from __future__ import annotations

import copy
from typing import Any, Self, cast

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """Mean of the last layer's token vectors, dropout, one linear layer to the logits of the classes."""

    def __init__(self, encoder: nn.Module, classes: int, freeze: int = 0, dropout: float = 0.1) -> None:
        """`encoder`: a transformers model without a pooling layer; it is taken apart when `freeze` is above 0.

        freeze: how many layers from below stay as they are, with the embeddings. Raises ValueError where the
        architecture has no such place, or parameters on both sides of it.
        """
        super().__init__()
        self.path = layers_path(encoder)
        self.lower: nn.Module | None = None
        self.upper = encoder
        if freeze:
            self.lower, self.upper = _cut(encoder, self.path, freeze)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.config.hidden_size, classes)

    def forward(self, ids: Tensor, mask: Tensor, features: Tensor | None = None) -> Tensor:
        """(B, C) logits of (B, L) ids; with `features` (B, L, D), the frozen layers are not run again."""
        if features is None and self.lower is not None:
            features = self.features(ids, mask)
        given = {"input_ids": ids} if features is None else {"inputs_embeds": features}
        hidden = self.upper(**given, attention_mask=mask).last_hidden_state  # (B, L, D)
        real = mask[:, :, None].to(hidden.dtype)
        pooled = (hidden * real).sum(dim=1) / real.sum(dim=1)  # (B, D)
        return cast(Tensor, self.head(self.dropout(pooled)))

    def features(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D) what the frozen layers give; only where there are some."""
        assert self.lower is not None  # for the type checker
        with torch.no_grad():
            return cast(Tensor, self.lower(input_ids=ids, attention_mask=mask).last_hidden_state)

    def train(self, mode: bool = True) -> Self:
        """The frozen layers never drop anything out: what they give for a text is the same each time."""
        super().train(mode)
        if self.lower is not None:
            self.lower.eval()
        return self

    @property
    def layers(self) -> nn.ModuleList | None:
        """Those that learn, lowest first; None where the architecture has no list of them."""
        return cast(nn.ModuleList, self.upper.get_submodule(self.path)) if self.path else None

    def whole(self) -> nn.Module:
        """The encoder in one piece again, as transformers knows it: a copy where it is cut."""
        if self.lower is None:
            return self.upper
        assert self.path is not None  # for the type checker
        made = copy.deepcopy(self.lower)
        made.get_submodule(self.path).extend(copy.deepcopy(self.layers))
        return made.requires_grad_(True)


def layers_path(encoder: Any) -> str | None:
    """Where an encoder keeps its layers, such as "encoder.layer"; None for one that repeats a layer, as ALBERT."""
    count = encoder.config.num_hidden_layers
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return cast(str, name)
    return None


class _Given(nn.Module):
    """Stands where the embeddings were and gives what came in their stead."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return next(x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.is_floating_point())


def _cut(encoder: Any, path: str | None, freeze: int) -> tuple[nn.Module, nn.Module]:
    """The frozen part and the rest. Both are the encoder's own class, so masks are made as it makes them."""
    name = type(encoder).__name__
    if path is None or not hasattr(encoder, "embeddings"):
        raise ValueError(f"freeze={freeze}: {name} has no embeddings with a list of layers above: use freeze=0")
    layers, embeddings = list(encoder.get_submodule(path)), encoder.embeddings
    if freeze >= len(layers):
        there, most = len(layers), len(layers) - 1
        raise ValueError(f"freeze={freeze}: {name} has {there} layers, one must learn: give {most} at most")
    encoder.set_submodule(path, nn.ModuleList())
    encoder.embeddings = _Given()
    if shared := [key for key, _ in encoder.named_parameters()]:
        raise ValueError(f"freeze={freeze}: {name} has {shared[0]} beside its layers: use freeze=0")
    upper = copy.deepcopy(encoder)  # of a shell: no weights in it
    upper.set_submodule(path, nn.ModuleList(layers[freeze:]))
    encoder.set_submodule(path, nn.ModuleList(layers[:freeze]))
    encoder.embeddings = embeddings
    return encoder.requires_grad_(False).eval(), upper
