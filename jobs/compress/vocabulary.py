"""A smaller vocabulary: the embeddings of pieces that no text has are most of a multilingual encoder, and can go."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from jobs.text import runtime
from jobs.text.artifact import Loaded
from jobs.text.network import Classifier


class Compact(nn.Module):
    """Embeddings of some of the ids; all others read as one of them. The tokenizer stays as it is."""

    def __init__(self, whole: nn.Embedding, kept: Tensor, instead: int) -> None:
        """kept: (K,) ids in their order; instead: one of them."""
        super().__init__()
        rows = torch.full((whole.num_embeddings,), int((kept == instead).nonzero()), dtype=torch.int32)
        rows[kept] = torch.arange(len(kept), dtype=torch.int32)
        self.register_buffer("rows", rows)  # (V,) where each id's embedding is
        self.weight = nn.Parameter(whole.weight.detach()[kept], requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(self.rows[ids], self.weight)


def compacted(loaded: Loaded, texts: Sequence[str]) -> tuple[Loaded, int]:
    """A copy that knows only the pieces of these texts and the special ones, and how many those are.

    Raises ValueError for a network that is no transformer.
    """
    if not isinstance(loaded.model, Classifier):
        raise ValueError("prune_vocabulary is for transformers: leave it out")
    rows = runtime.Reader.of(loaded.tokenizer, loaded.manifest["reading"]).rows(texts).ids
    kept = np.union1d(np.concatenate(rows), np.array(loaded.tokenizer.all_special_ids))
    unknown, pad = loaded.tokenizer.unk_token_id, loaded.tokenizer.pad_token_id
    model = copy.deepcopy(loaded.model)
    encoder = model.upper
    made = Compact(encoder.get_input_embeddings(), torch.from_numpy(kept), pad if unknown is None else unknown)
    encoder.set_input_embeddings(made)
    return replace(loaded, model=model.eval()), len(kept)
