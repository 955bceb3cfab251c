"""What every recommender is to those who use it: histories in, scores of all items out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]


class Ranker(Protocol):
    """A fitted network, a table of counts, or a blend of them."""

    @property
    def name(self) -> str:
        """What it is and how large: all that the memory of a batch depends on."""

    @property
    def items(self) -> int:
        """How many items it ranks, those of its vocabulary: 0 to items - 1."""

    @property
    def device(self) -> torch.device: ...

    def scores(self, histories: Sequence[Array]) -> Tensor:
        """(B, items) float on the device, higher is better, for B histories of item indexes, oldest first, none empty.

        A user's scores do not depend on who else is in the batch. Seen items are scored like all others.
        """
