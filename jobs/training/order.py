"""Which examples come together: an epoch's batches in random order, and a batch cut into forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Rows are sorted by length within this many batches: enough to be alike, few enough that every epoch mixes anew.
_POOL = 50


def batches(lengths: Array, batch: int, random: np.random.Generator, buckets: bool = False) -> list[Array]:
    """The rows of each batch of an epoch, all of them once. In buckets, those of one batch are of like lengths."""
    rows = random.permutation(len(lengths))
    if not buckets:
        return [rows[begin : begin + batch] for begin in range(0, len(rows), batch)]
    made: list[Array] = []
    for begin in range(0, len(rows), batch * _POOL):
        pool = rows[begin : begin + batch * _POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        made += [pool[start : start + batch] for start in range(0, len(pool), batch)]
    return [made[number] for number in random.permutation(len(made))]


def cut(rows: Array, lengths: Array, micro_batch: int | None = None, tokens: int | None = None) -> list[Array]:
    """The rows in parts of `micro_batch` rows, or sorted by length in parts of at most `tokens` padded tokens.

    Their gradients add up to the batch's: unlike buckets, this takes the padding away and changes nothing else.
    """
    if tokens is None:
        size = micro_batch or len(rows)
        return [rows[begin : begin + size] for begin in range(0, len(rows), size)]
    rows = rows[np.argsort(lengths[rows], kind="stable")[::-1]]  # longest first: what does not fit shows at once
    parts, begin = [], 0
    while begin < len(rows):
        size = max(1, tokens // max(1, int(lengths[rows[begin]])))
        parts.append(rows[begin : begin + size])
        begin += size
    return parts


def share(rows: Array, rank: int, world: int) -> Array:
    """One process's rows of a batch."""
    return rows[rank::world]


def padding(rows: Sequence[Array], lengths: Array) -> int:
    """Tokens that are computed for nothing when each of these parts is padded to its longest row."""
    return int(sum(lengths[part].max() * len(part) - lengths[part].sum() for part in rows if len(part)))
