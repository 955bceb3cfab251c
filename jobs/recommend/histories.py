"""Histories of users in time order as flat arrays, and the leave-one-out split by time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NONE = -1  # a user too short to hold anything out


@dataclass(frozen=True)
class Histories:
    """What each user did, oldest first: `flat[starts[u]:starts[u + 1]]` are indexes into `items`."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    flat: Ints  # (events,)
    starts: Ints  # (users + 1,)
    times: Floats | None = None  # (events,) in seconds since 1970; None where nobody knows

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, user: int) -> Ints:
        if not 0 <= user < len(self.users):
            raise IndexError(user)
        return self.flat[self.starts[user] : self.starts[user + 1]]

    def __iter__(self) -> Iterator[Ints]:
        return (self[user] for user in range(len(self)))

    @property
    def lengths(self) -> Ints:
        return np.diff(self.starts)

    @property
    def moments(self) -> Ints:
        """(events,) which of its history's moments each event is of, counted through all users.

        Events of one time share a moment; where times are unknown, each is its own.
        """
        begins = np.ones(len(self.flat), dtype=bool)
        if self.times is not None:
            begins[1:] = self.times[1:] != self.times[:-1]
            begins[self.starts[:-1][self.lengths > 0]] = True
        return np.cumsum(begins) - 1

    def kept(self, keep: NDArray[np.bool_]) -> Histories:
        """The same users with these events only; keep (events,)."""
        owner = np.repeat(np.arange(len(self)), self.lengths)
        return self._with(np.flatnonzero(keep), np.bincount(owner[keep], minlength=len(self)))

    def taken(self, events: Sequence[Ints], users: Sequence[str] | None = None) -> Histories:
        """A history of each of these sequences of events, which are places in `flat`; `users`: if not mine."""
        chosen = np.concatenate(events) if len(events) else np.zeros(0, dtype=np.int64)
        lengths = np.array([len(sequence) for sequence in events], dtype=np.int64)
        return replace(self._with(chosen, lengths), users=self.users if users is None else tuple(users))

    def _with(self, events: Ints, lengths: Ints) -> Histories:
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        times = None if self.times is None else self.times[events]
        return replace(self, flat=self.flat[events], starts=starts, times=times)

    def matrix(self) -> csr_matrix:
        """Users by items, 1 where the user met the item."""
        ones = np.ones(len(self.flat), dtype=np.float32)
        return csr_matrix((ones, self.flat, self.starts), shape=(len(self.users), len(self.items)))

    def fingerprint(self) -> str:
        """sha256 of everything: the same data, whatever file it came from."""
        digest = hashlib.sha256("\x00".join((*self.users, "", *self.items)).encode())
        for array in (self.flat, self.starts):
            digest.update(array.astype(np.int64).tobytes())
        return digest.hexdigest()

    def ids(self, user: int) -> list[str]:
        return [self.items[index] for index in self[user]]


def from_sequences(
    sequences: Sequence[Sequence[int] | Ints], items: Sequence[str], users: Sequence[str] | None = None
) -> Histories:
    """Histories from one list of item indexes a user."""
    lengths = [len(sequence) for sequence in sequences]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    parts = [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
    flat = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    names = tuple(users) if users is not None else tuple(str(n) for n in range(len(sequences)))
    return Histories(names, tuple(items), flat, starts)


@dataclass(frozen=True)
class Split:
    """Leave-one-out by time: the last item is the test, the one before it the validation, the rest training.

    A user with fewer than three items is all training and has NONE in both held-out columns.
    """

    train: Histories
    validation: Ints  # (users,) item index or NONE
    test: Ints  # (users,) item index or NONE

    def before_test(self) -> Histories:
        """Training and validation together: what is known, and filtered, when the test item is ranked."""
        held = self.validation != NONE
        flat = np.insert(self.train.flat, self.train.starts[1:][held], self.validation[held])
        starts = self.train.starts + np.concatenate([[0], np.cumsum(held)])
        return Histories(self.train.users, self.train.items, flat, starts)


def leave_one_out(histories: Histories) -> Split:
    lengths = histories.lengths
    long = lengths >= 3
    ends = histories.starts[1:]
    test = np.full(len(histories), NONE, dtype=np.int64)
    validation = test.copy()
    test[long] = histories.flat[ends[long] - 1]
    validation[long] = histories.flat[ends[long] - 2]
    keep = np.ones(len(histories.flat), dtype=bool)
    keep[ends[long] - 1] = False
    keep[ends[long] - 2] = False
    return Split(histories.kept(keep), validation, test)
