"""Augmented copies of texts, for a teacher to label: words masked, and parts of the texts alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers.pre_tokenizers import BertPreTokenizer

MASK = "[UNK]"  # what a student reads as a word that it does not know; a teacher gets its own mask in its stead
_MASKED, _PART, _LONGEST = 0.1, 0.25, 5  # the paper's shares, and words of a part


def augmented(texts: Sequence[str], copies: int, seed: int = 42) -> list[str]:
    """`copies` of each text in turn, the first ones of all texts, then the second ones; the same for the same seed.

    Tang et al. 2019, Distilling Task-Specific Knowledge from BERT into Simple Neural Networks (arXiv 1903.12136),
    section 3.2: each word is masked with probability 0.1, and with probability 0.25 only 1 to 5 words in sequence are
    left. Its third rule, words replaced by others of the same part of speech, is left out: it needs a tagger. A Chinese
    character is a word.
    """
    random, cutter = np.random.default_rng((seed, copies)), BertPreTokenizer()
    spans = [[place for _, place in cutter.pre_tokenize_str(text)] for text in texts]
    return [_one(text, places, random) for _ in range(copies) for text, places in zip(texts, spans, strict=True)]


def _one(text: str, places: Sequence[tuple[int, int]], random: np.random.Generator) -> str:
    if not places:
        return text
    masked, first, last = random.random(len(places)) < _MASKED, 0, len(places)
    if random.random() < _PART:
        words = min(int(random.integers(1, _LONGEST + 1)), len(places))
        first = int(random.integers(0, len(places) - words + 1))
        last = first + words
    made, done = "", places[first][0]
    for (begin, end), gone in zip(places[first:last], masked[first:last], strict=True):
        made += text[done:begin] + (MASK if gone else text[begin:end])
        done = end
    return made
