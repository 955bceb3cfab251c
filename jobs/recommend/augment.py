"""Histories changed before each epoch: ties in a new order, cropped or reordered at random, or short ones first.

Cropped and reordered as in CL4SRec (Xie et al. 2022), but as data augmentation, without the paper's contrastive loss.
Items are masked in jobs.recommend.batches.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jobs.recommend.histories import Histories

CROPPED, REORDERED = 0.6, 0.2  # share of a history that is left, and that is shuffled


def tied(histories: Histories, random: np.random.Generator) -> Histories:
    """What happened at one time, which has no order but that of a file, in an order drawn anew."""
    if histories.times is None:
        return histories
    order = np.lexsort((random.random(len(histories.flat)), histories.moments))
    return replace(histories, flat=histories.flat[order])


def changed(histories: Histories, random: np.random.Generator, crop: float = 0.0, reorder: float = 0.0) -> Histories:
    """Each history is cropped to a stretch, and a stretch of it shuffled, with these probabilities."""
    if not crop and not reorder:
        return histories
    events = []
    for first, last in zip(histories.starts[:-1], histories.starts[1:], strict=True):
        history = np.arange(first, last)
        if random.random() < crop:
            left = max(2, int(CROPPED * len(history)))
            begin = random.integers(0, max(1, len(history) - left + 1))
            history = history[begin : begin + left]
        if random.random() < reorder:
            moved = max(2, int(REORDERED * len(history)))
            begin = random.integers(0, max(1, len(history) - moved + 1))
            random.shuffle(history[begin : begin + moved])
        events.append(history)
    return histories.taken(events)


def shortest(histories: Histories, share: float) -> Histories:
    """The share of users whose histories are shortest: what a curriculum begins with."""
    if share >= 1:
        return histories
    users = np.sort(np.argsort(histories.lengths, kind="stable")[: max(1, round(share * len(histories)))])
    events = [np.arange(histories.starts[user], histories.starts[user + 1]) for user in users]
    return histories.taken(events, [histories.users[user] for user in users])
