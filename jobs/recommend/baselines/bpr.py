"""BPR-MF: factors of users and items, fitted so that met items score above others (Rendle et al. 2009)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jobs.recommend.histories import Histories, from_sequences
from jobs.recommend.ranker import Array

_BATCH = 4096
_LOOK = 5  # epochs between two looks at the held-out items
_JUDGED = 1000  # users whose held-out items are looked at
_PATIENCE = 4  # looks without a better one
_UNSEEN = 0.05  # weight of the items not met when a new user is folded in


class Bpr:
    """See jobs.recommend.ranker.Ranker. Users that it was fitted on are known by their history; others are folded in.

    users (users, dim), factors (items, dim), bias (items,).
    """

    def __init__(self, users: Tensor, factors: Tensor, bias: Tensor, known: dict[bytes, int]) -> None:
        self.users, self.factors, self.bias, self._known = users, factors, bias, known

    @classmethod
    def fit(
        cls,
        train: Histories,
        dim: int = 64,
        rate: float = 0.01,
        decay: float = 0.002,
        epochs: int = 100,
        seed: int = 0,
    ) -> Bpr:
        """Stops by the rank of each history's last item, held out, then fits all of it for as many epochs."""
        best = _epochs(train, dim, rate, decay, epochs, seed)
        users, factors, bias = _start(train, dim, seed)
        for _ in _fitting((users, factors, bias), train, rate, decay, best, seed):
            pass
        known = {history.tobytes(): user for user, history in enumerate(train)}
        return cls(users.detach(), factors.detach(), bias.detach(), known)

    @property
    def name(self) -> str:
        return f"bpr-{self.items}"

    @property
    def items(self) -> int:
        return len(self.factors)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def scores(self, histories: Sequence[Array]) -> Tensor:
        return self._users(histories) @ self.factors.T + self.bias

    def _users(self, histories: Sequence[Array]) -> Tensor:
        rows = [self._known.get(np.asarray(history, dtype=np.int64).tobytes(), -1) for history in histories]
        vectors = self.users[rows]
        for place in np.flatnonzero(np.array(rows) < 0).tolist():
            vectors[place] = self._folded(histories[place])
        return vectors

    def _folded(self, history: Array) -> Tensor:
        """A user's vector by ridge regression: 1 for what was met, 0 for the rest, which weighs little."""
        met = self.factors[torch.from_numpy(np.asarray(history))]
        eye = torch.eye(self.factors.shape[1])
        return torch.linalg.solve(met.T @ met + _UNSEEN * self._gram() + 0.1 * eye, met.sum(dim=0))

    def _gram(self) -> Tensor:
        return self.factors.T @ self.factors


def _start(train: Histories, dim: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    users = torch.randn(len(train), dim, generator=drawn) * 0.1
    factors = torch.randn(len(train.items), dim, generator=drawn) * 0.1
    return users.requires_grad_(), factors.requires_grad_(), torch.zeros(len(factors), requires_grad=True)


def _fitting(
    parameters: tuple[Tensor, Tensor, Tensor], train: Histories, rate: float, decay: float, epochs: int, seed: int
) -> Iterator[int]:
    """Fits in place, every event once an epoch against one item drawn uniformly; yields each epoch's number."""
    users, factors, bias = parameters
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(train)), train.lengths)
    met = np.sort(owner * len(train.items) + train.flat)
    optimizer = torch.optim.Adam(parameters, lr=rate)
    for epoch in range(1, epochs + 1):
        drawn = random.integers(0, len(train.items), len(owner))
        wanted = owner * len(train.items) + drawn
        fair = met[np.minimum(np.searchsorted(met, wanted), len(met) - 1)] != wanted  # not an item that was met
        events = random.permutation(np.flatnonzero(fair))
        for begin in range(0, len(events), _BATCH):
            chosen = events[begin : begin + _BATCH]
            user, good, bad = (torch.from_numpy(each[chosen]) for each in (owner, train.flat, drawn))
            u, i, j = users[user], factors[good], factors[bad]  # (B, D) each
            ahead = (u * (i - j)).sum(dim=1) + bias[good] - bias[bad]
            size = u.square().sum() + i.square().sum() + j.square().sum()
            loss = (decay * size - F.logsigmoid(ahead).sum()) / len(chosen)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield epoch


def _epochs(train: Histories, dim: int, rate: float, decay: float, most: int, seed: int) -> int:
    """The number of epochs after which each history's last item, held out, ranks best (mean reciprocal rank)."""
    long = np.flatnonzero(train.lengths >= 3)
    if not len(long):
        return most
    if len(long) > _JUDGED:
        long = np.sort(np.random.default_rng(seed).choice(long, _JUDGED, replace=False))
    left = from_sequences(
        [h[:-1] if keep else h for h, keep in zip(train, np.isin(range(len(train)), long), strict=True)], train.items
    )
    held = torch.from_numpy(train.flat[train.starts[long + 1] - 1])
    seen = torch.from_numpy(left.matrix()[long].toarray() > 0)
    users, factors, bias = parameters = _start(train, dim, seed)
    best, best_value = most, -1.0
    for epoch in _fitting(parameters, left, rate, decay, most, seed):
        if epoch % _LOOK:
            continue
        with torch.no_grad():
            scores = (users[long] @ factors.T + bias).masked_fill(seen, -torch.inf)
            ranks = 1 + (scores > scores.gather(1, held[:, None])).sum(dim=1)
        value = float((1 / ranks).mean())
        if value > best_value:
            best, best_value = epoch, value
        elif epoch >= best + _PATIENCE * _LOOK:
            break
    return best
