"""Small invented histories for the recommender's unit tests."""

import numpy as np

from jobs.recommend.histories import Histories, from_sequences

ITEMS = 40


def histories(users: int = 60, items: int = ITEMS, seed: int = 0) -> Histories:
    """Each user walks the items in circles from a random place, so the next item can be learned."""
    random = np.random.default_rng(seed)
    sequences = []
    for _ in range(users):
        start, length = random.integers(0, items), random.integers(5, items // 2)
        sequences.append((start + np.arange(length)) % items)
    return from_sequences(sequences, [f"i{n}" for n in range(items)], [f"u{n}" for n in range(users)])
