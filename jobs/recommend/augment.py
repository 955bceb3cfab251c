"""Histories changed before each epoch: cropped or reordered at random (CL4SRec, Xie et al. 2022), or short ones first.

As data augmentation, without the paper's contrastive loss. Items are masked in jobs.recommend.batches.
"""

from __future__ import annotations

import numpy as np

from jobs.recommend.histories import Histories, from_sequences

CROPPED, REORDERED = 0.6, 0.2  # share of a history that is left, and that is shuffled


def changed(histories: Histories, random: np.random.Generator, crop: float = 0.0, reorder: float = 0.0) -> Histories:
    """Each history is cropped to a stretch, and a stretch of it shuffled, with these probabilities."""
    if not crop and not reorder:
        return histories
    sequences = []
    for history in histories:
        if random.random() < crop:
            left = max(2, int(CROPPED * len(history)))
            begin = random.integers(0, max(1, len(history) - left + 1))
            history = history[begin : begin + left]
        if random.random() < reorder:
            moved = max(2, int(REORDERED * len(history)))
            begin = random.integers(0, max(1, len(history) - moved + 1))
            history = history.copy()
            random.shuffle(history[begin : begin + moved])
        sequences.append(history)
    return from_sequences(sequences, histories.items, histories.users)


def shortest(histories: Histories, share: float) -> Histories:
    """The share of users whose histories are shortest: what a curriculum begins with."""
    if share >= 1:
        return histories
    users = np.sort(np.argsort(histories.lengths, kind="stable")[: max(1, round(share * len(histories)))])
    return from_sequences([histories[user] for user in users], histories.items, [histories.users[u] for u in users])
