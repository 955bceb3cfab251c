"""A tiny encoder made on the spot, and texts whose classes a network can learn in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from jobs.text.data import Dataset, Split
from jobs.text.encoder import Encoder

WORDS = ("good", "fine", "nice", "bad", "poor", "ugly", "the", "book", "room", "很", "好", "差")
CLASSES = ("positive", "negative")


def tokenizer() -> PreTrainedTokenizerFast:
    made = BertWordPieceTokenizer({word: n for n, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))})
    return PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=64,
    )  # fmt: skip


def encoder(layers: int = 3, dropout: float = 0.1) -> Encoder:
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=4 + len(WORDS), hidden_size=32, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=0,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    return Encoder("tiny", BertModel(shape, add_pooling_layer=False), tokenizer())


def rows(count: int, seed: int) -> list[tuple[str, int]]:
    """Texts of 3 to 20 words, of which one tells the class."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label = number % 2
        telling = ("good", "fine", "nice") if label == 0 else ("bad", "poor", "ugly")
        words = [str(word) for word in random.choice(["the", "book", "room", "很"], int(random.integers(2, 20)))]
        words.insert(int(random.integers(0, len(words))), telling[int(random.integers(0, 3))])
        found.append((" ".join(words), label))
    return found


def dataset(train: int = 96, dev: int = 32) -> Dataset:
    def split(count: int, seed: int) -> Split:
        texts, labels = zip(*rows(count, seed), strict=True)
        return Split(texts, np.array(labels))

    return Dataset("tiny", CLASSES, split(train, 1), split(dev, 2), split(dev, 3))


def write_folder(folder: Path, train: int = 96, dev: int = 32) -> Path:
    """The same data set as the folder that a user would bring."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "class.txt").write_text("\n".join(CLASSES))
    for name, count, seed in (("train", train, 1), ("dev", dev, 2), ("test", dev, 3)):
        (folder / f"{name}.txt").write_text("".join(f"{text}\t{label}\n" for text, label in rows(count, seed)))
    return folder


def write_encoder(folder: Path) -> Path:
    """The tiny encoder in Hugging Face's form."""
    made = encoder()
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder
