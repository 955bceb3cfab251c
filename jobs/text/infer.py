"""Running a classifier over texts: of like lengths together, in batches that fit, answered in their own order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from jobs.text.tokens import TextBatch
from jobs.training.memory import Batcher
from jobs.training.task import Examples

_AT_ONCE = 64  # texts of a forward pass; on a CPU more are no faster


def logits(model: nn.Module, tokens: Examples, sizes: Batcher) -> np.ndarray[Any, Any]:
    """(N, C) float32; the model is in eval mode, on the device of `sizes`."""
    order = np.argsort(-tokens.lengths, kind="stable")  # the longest first: what does not fit shows at once

    def forward(rows: Sequence[int]) -> np.ndarray[Any, Any]:
        batch = cast(TextBatch, tokens.batch(np.array(rows))).to(sizes.device)
        with torch.inference_mode():
            return np.asarray(model(batch.ids, batch.mask, batch.features).float().cpu().numpy())

    made = np.concatenate(list(sizes.run(forward, order.tolist(), _AT_ONCE)))
    found = np.empty_like(made)
    found[order] = made
    return found
