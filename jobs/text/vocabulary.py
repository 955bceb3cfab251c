"""A tokenizer whose vocabulary is made from texts: the same for the same texts, in whatever order they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tokenizers import BertWordPieceTokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import PreTrainedTokenizerFast

LONGEST = 512  # tokens of a text
_READ = 10_000  # characters of a text
_CHARACTERS, _WORDS = 6000, 2000


def tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Characters for Chinese, words and their pieces for languages with spaces; BERT's marks at begin and end."""
    made = BertWordPieceTokenizer({piece: number for number, piece in enumerate(pieces(texts))}, lowercase=True)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made._tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=LONGEST,
    )  # fmt: skip


def pieces(texts: Sequence[str]) -> list[str]:
    """Pieces for WordPiece: characters (each Chinese one is a word of its own), and words that are frequent.

    Not by tokenizers' own trainer: its vocabulary is another one each time (2,324 to 2,326 pieces of the same texts),
    and then no training can be resumed.
    """
    split, cleaned = BertPreTokenizer(), BertNormalizer(lowercase=True)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in split.pre_tokenize_str(cleaned.normalize_str(text[:_READ])))
    found: Counter[str] = Counter()
    for word, count in counts.items():
        for place, character in enumerate(word):
            found[f"##{character}" if place else character] += count
    words = {word: count for word, count in counts.items() if len(word) > 1}
    common = [_frequent(found, _CHARACTERS, 2), _frequent(words, _WORDS, 5)]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *common[0], *common[1]]


def _frequent(counts: Mapping[str, int], most: int, least: int) -> list[str]:
    """The `most` most frequent that are there `least` times; equally frequent ones by their own order."""
    ordered = sorted(counts, key=lambda piece: (-counts[piece], piece))
    return [piece for piece in ordered[:most] if counts[piece] >= least]
