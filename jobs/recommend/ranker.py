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


def places(histories: Sequence[Array], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Where (B, items) holds what the users have seen: rows and columns, (events,) each, to index it with."""
    row = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    return torch.from_numpy(row).to(device), torch.from_numpy(np.concatenate(histories)).to(device)
