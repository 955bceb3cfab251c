"""What items are said to be, as vectors: their titles read by MiniLM, and their features (genres, years, tags, …)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from jobs.recommend.data import Catalogue
from jobs.recommend.features import values
from jobs.text import encoder
from jobs.training.tables import DataError

PAIRS = 256  # of (feature, value), the most frequent
_MET = 2  # items that must have a pair before it is one
_BATCH = 128


def described(items: Sequence[str], catalogue: Catalogue, device: torch.device | None = None) -> Tensor:
    """(items, F) float32 on the CPU: titles and features, each of norm 1 or all 0 where nothing is known.

    Raises jobs.training.tables.DataError where the catalogue says nothing of any item, or MiniLM is not installed.
    """
    titles = [catalogue.titles.get(item, "") for item in items]
    pairs = [list(values(catalogue.features.get(item, {}))) for item in items]
    if not any(titles) and not any(pairs):
        raise DataError("the catalogue has neither titles nor features: give one, or leave joint out")
    met = Counter(pair for row in pairs for pair in row)
    columns = {pair: place for place, (pair, count) in enumerate(met.most_common(PAIRS)) if count >= _MET}
    hot = torch.zeros((len(items), len(columns)))
    for item, row in enumerate(pairs):
        for pair in row:
            if pair in columns:
                hot[item, columns[pair]] = 1 / met[pair] ** 0.5  # what few share says more
    return torch.cat([_read(titles, device or torch.device("cpu")), F.normalize(hot, dim=1)], dim=1)


@torch.inference_mode()
def _read(titles: Sequence[str], device: torch.device) -> Tensor:
    """(n, 384): the mean of the tokens' vectors, as all-MiniLM-L6-v2 was trained; 0 without a title."""
    some = [place for place, title in enumerate(titles) if title]
    minilm = encoder.load(encoder.MINILM, [titles[place] for place in some])
    network = minilm.model.to(device).eval()
    made = torch.zeros((len(titles), int(network.config.hidden_size)))
    for begin in range(0, len(some), _BATCH):
        part = some[begin : begin + _BATCH]
        tokens = minilm.tokenizer([titles[place] for place in part], padding=True, truncation=True, return_tensors="pt")
        tokens = {name: tensor.to(device) for name, tensor in tokens.items()}
        mask = tokens["attention_mask"][:, :, None]
        mean = (network(**tokens).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
        made[part] = F.normalize(mean, dim=1).cpu()
    return made.clone()
