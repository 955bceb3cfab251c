"""A student that counts n-grams: the mean of their vectors, one linear layer; the network itself hashes them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from jobs.text.bilstm import BiLSTM, kept

_PRIME = 2**31 - 1  # all products below are less than 2^62
_NEXT, _SPREAD = 1_000_003, 48_271
_START = 1e-3  # n-grams that no text had say next to nothing


class NgramBag(nn.Module):
    """Joulin et al. 2016, Bag of Tricks for Efficient Text Classification (arXiv 1607.01759), section 2.

    Each token has a vector of its own, and each n-gram of 2 to `longest` tokens the one that its hash points to.
    """

    def __init__(
        self, vocabulary: int, classes: int, width: int, buckets: int, longest: int = 3, dropout: float = 0.1
    ) -> None:
        """`dropout`: share of the n-grams that are left out."""
        super().__init__()
        self.vocabulary, self.buckets, self.longest = vocabulary, buckets, longest
        self.table = nn.Embedding(vocabulary + buckets, width)
        nn.init.normal_(self.table.weight, std=_START)
        self.head = nn.Linear(width, classes)
        self.dropout = dropout

    def forward(self, ids: Tensor, mask: Tensor, features: Tensor | None = None) -> Tensor:
        """(B, C) logits of (B, L) ids."""
        rows, real = self.rows(ids, mask)
        vectors = kept(self.table(rows), self.dropout, self.training) * real[:, :, None]  # (B, NL, D)
        pooled = vectors.sum(dim=1) / real.sum(dim=1, keepdim=True).clamp(min=1)
        return cast(Tensor, self.head(pooled))

    def rows(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, NL) rows of the table for N lengths of n-grams, and 1.0 where there is such an n-gram, else 0.0.

        A polynomial hash modulo a prime, so that "a b" and "b a" differ, by int64 arithmetic that ONNX has too.
        """
        found, real = [ids], [mask]
        key, there, token, real_token = ids + 1, mask, ids, mask
        for _ in range(1, self.longest):
            token = nn.functional.pad(token[:, 1:], (0, 1))
            real_token = nn.functional.pad(real_token[:, 1:], (0, 1))
            key = (key * _NEXT + token + 1) % _PRIME
            there = there * real_token
            found.append(self.vocabulary + key * _SPREAD % _PRIME % self.buckets)
            real.append(there)
        return torch.cat(found, dim=1), torch.cat(real, dim=1).to(self.table.weight.dtype)


class BagAndLSTM(nn.Module):
    """Both at once: the sum of an n-gram bag's logits and a BiLSTM's, trained together.

    The form of Cheng et al. 2016, Wide & Deep Learning (arXiv 1606.07792), section 3.3.
    """

    def __init__(self, bag: NgramBag, lstm: BiLSTM) -> None:
        super().__init__()
        self.bag, self.lstm = bag, lstm

    def forward(self, ids: Tensor, mask: Tensor, features: Tensor | None = None) -> Tensor:
        """(B, C) logits of (B, L) ids."""
        return cast(Tensor, self.bag(ids, mask) + self.lstm(ids, mask))
