"""Students: from a kind and a size to a network with the tokenizer that belongs to it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerBase

from jobs.text import vocabulary
from jobs.text.bilstm import BiLSTM
from jobs.text.network import Classifier
from jobs.text.ngrams import BagAndLSTM, NgramBag
from jobs.text.teacher import sizes

LAYERS = "layers"  # the first of the teacher's, with its embeddings and its vocabulary
SIZES: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "bilstm": {"small": {"width": 64, "hidden": 32}, "medium": {"width": 128, "hidden": 64}},
    "ngrams": {"small": {"width": 16, "buckets": 2**15}, "medium": {"width": 16, "buckets": 2**17}},
    "ngrams+bilstm": {
        "small": {"bag": 16, "buckets": 2**15, "width": 64, "hidden": 32},
        "medium": {"bag": 16, "buckets": 2**16, "width": 128, "hidden": 64},
    },
    "transformer": {
        "small": {"layers": 2, "width": 128, "heads": 4},
        "medium": {"layers": 4, "width": 192, "heads": 6},
    },
    LAYERS: {"small": {"layers": 2}, "medium": {"layers": 4}},
}


@dataclass(frozen=True)
class Student:
    """A network that has learned nothing yet."""

    name: str
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    network: dict[str, Any]  # what a manifest says of it, and `network` makes it again from

    @property
    def parameters(self) -> int:
        return sum(each.numel() for each in self.model.parameters())


def make(
    kind: str,
    size: str,
    changed: Mapping[str, int | float],
    texts: Sequence[str],
    classes: int,
    seed: int = 42,
) -> Student:
    """`size`: "small" or "medium", of which `changed` replaces numbers; `texts`: those whose words it shall know.

    Raises ValueError for a number that the kind does not have.
    """
    numbers = {**SIZES[kind][size], **changed}
    made = vocabulary.tokenizer(texts)
    if unknown := sorted(changed.keys() - _NUMBERS[kind]):
        raise ValueError(f"a student of kind {kind!r} has no {unknown[0]}: it has {', '.join(sorted(_NUMBERS[kind]))}")
    description = {"kind": kind, "vocabulary": len(made), **numbers}
    torch.manual_seed(seed)
    model = network(description, classes)
    words = ", ".join(f"{name} {value:,}" for name, value in description.items() if name != "kind")
    return Student(f"{kind} student ({words})", model, made, description)


def first_layers(size: str, changed: Mapping[str, int | float], teacher: Classifier, tokenizer: Any) -> Student:
    """A transformer of the teacher's embeddings, its first layers and its head; `tokenizer`: the teacher's.

    Where the teacher knows so much in its lower layers, it need not be learned again (Sanh et al. 2019, DistilBERT,
    section 3, which takes every other layer). Raises ValueError for layers that the teacher does not have.
    """
    if unknown := sorted(changed.keys() - {"layers"}):
        raise ValueError(f"a student of kind {LAYERS!r} has no {unknown[0]}: it has layers")
    layers = int({**SIZES[LAYERS][size], **changed}["layers"])
    encoder: Any = copy.deepcopy(teacher.whole())
    there = encoder.config.num_hidden_layers
    if teacher.path is None or not 0 < layers < there:
        raise ValueError(f"layers={layers}: the teacher has {there}: give at least 1 and fewer than that")
    encoder.set_submodule(teacher.path, nn.ModuleList(list(encoder.get_submodule(teacher.path))[:layers]))
    encoder.config.num_hidden_layers = layers
    model = Classifier(encoder, teacher.head.out_features)
    model.head.load_state_dict(teacher.head.state_dict())
    name = f"student of the teacher's first {layers} layers of {encoder.config.hidden_size}"
    return Student(name, model, tokenizer, sizes(encoder))


def network(description: Mapping[str, Any], classes: int) -> nn.Module:
    """The network of a manifest's description, with random weights. Raises KeyError or TypeError for another one."""
    given = {name: value for name, value in description.items() if name != "kind"}
    return _KINDS[description["kind"]](classes=classes, **given)


def _both(
    vocabulary: int, classes: int, bag: int, buckets: int, width: int, hidden: int, bag_dropout: float = 0.1,
    **dropouts: float,
) -> BagAndLSTM:  # fmt: skip
    wide = NgramBag(vocabulary, classes, bag, buckets, dropout=bag_dropout)
    return BagAndLSTM(wide, BiLSTM(vocabulary, classes, width, hidden, **dropouts))


def _transformer(
    vocabulary: int, classes: int, layers: int, width: int, heads: int, dropout: float = 0.1
) -> Classifier:
    shape = BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, max_position_embeddings=512, pad_token_id=0,
    )  # fmt: skip
    return Classifier(BertModel(shape, add_pooling_layer=False), classes, dropout=dropout)


_KINDS: Mapping[str, Any] = {
    "bilstm": BiLSTM, "ngrams": NgramBag, "ngrams+bilstm": _both, "transformer": _transformer,
}  # fmt: skip
_NUMBERS: Mapping[str, set[str]] = {
    "bilstm": {"width", "hidden", "dropout", "word_dropout"},
    "ngrams": {"width", "buckets", "longest", "dropout"},
    "ngrams+bilstm": {"bag", "buckets", "width", "hidden", "dropout", "word_dropout", "bag_dropout"},
    "transformer": {"layers", "width", "heads", "dropout"},
}
