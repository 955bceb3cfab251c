"""A split that is frozen in a file: who holds out what, as CSV of user, validation and test item.

Where events tie in time, the order of a file decides who is held out, and two tools, or two exports of the same data,
measure on different items: of MovieLens-100K's users the last event of 44 % is tied. A frozen split stays.
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.recommend.histories import NONE, Histories, Ints, Split, leave_one_out
from jobs.training.tables import DataError

ML_100K = Path(__file__).parent / "splits" / "ml-100k.csv"
COLUMNS = ["user", "validation", "test"]
_FIRST = re.compile(r"# data sha256 ([0-9a-f]{64})")


@dataclass(frozen=True)
class Frozen:
    """Held-out items by user. `data`: the `contents` of the histories that it was made of."""

    data: str
    held: dict[str, tuple[str, str]]  # user -> validation and test item, in the order of the data

    @property
    def sha256(self) -> str:
        """Of who holds out what: two evaluations are of the same split if it is the same."""
        rows = "\n".join("\t".join((user, *held)) for user, held in sorted(self.held.items()))
        return hashlib.sha256(rows.encode()).hexdigest()

    def write(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            file.write(f"# data sha256 {self.data}\n")
            rows = ([user, *held] for user, held in self.held.items())
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def read(path: Path) -> Frozen:
    """Raises DataError when it is no such file."""
    how = "give a split.csv from the report of recommend.evaluate"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            first = _FIRST.fullmatch(file.readline().strip())
            columns, *rows = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = getattr(error, "strerror", None) or error
        raise DataError(f"split {str(path)!r} cannot be read ({said}): {how}") from None
    if first is None or columns != COLUMNS:
        raise DataError(f"split {path.name}: its first lines are not '# data sha256 …' and {','.join(COLUMNS)}: {how}")
    held = {}
    for number, row in enumerate(rows, start=3):
        if len(row) != len(COLUMNS) or row[0] in held or row[1] == row[2]:
            raise DataError(f"split {path.name}, line {number}: {','.join(row)!r} is not one user and two items: {how}")
        held[row[0]] = (row[1], row[2])
    return Frozen(first[1], held)


def freeze(split: Split) -> Frozen:
    train = split.train
    users = np.flatnonzero(split.test != NONE)
    held = {
        train.users[user]: (train.items[split.validation[user]], train.items[split.test[user]])
        for user in users.tolist()
    }
    return Frozen(contents(_whole(split)), held)


def apply(frozen: Frozen, histories: Histories, name: str) -> Split:
    """The split of these histories as it was frozen; `name` of the data, for errors. Raises DataError."""
    if contents(histories) != frozen.data:
        raise DataError(
            f"the split is of data with sha256 {frozen.data[:12]}…, {name} has {contents(histories)[:12]}…: evaluate "
            "the same data with the same min_rating, or leave split out"
        )
    index = {item: number for number, item in enumerate(histories.items)}
    place = {user: number for number, user in enumerate(histories.users)}
    validation = np.full(len(histories), NONE, dtype=np.int64)
    test = validation.copy()
    for user, (before, last) in frozen.held.items():
        own = place.get(user, NONE)
        met = set(histories[own].tolist()) if own != NONE else set()
        if not {index.get(before), index.get(last)} <= met or len(met) < 3:
            raise DataError(f"the split holds out {before!r} and {last!r} of user {user!r}, who did not meet both")
        validation[own], test[own] = index[before], index[last]
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    keep = (histories.flat != validation[owner]) & (histories.flat != test[owner])
    return Split(histories.kept(keep), validation, test)


def split_of(histories: Histories, name: str, path: str | None = None) -> tuple[Split, str]:
    """The split to evaluate on, and which it is in words: that of `path`, else MovieLens-100K's own, else by time.

    Raises DataError when the file is wrong or of other data.
    """
    if path is not None:
        return apply(read(Path(path)), histories, name), f"frozen in {Path(path).name}"
    shipped = read(ML_100K)
    if contents(histories) == shipped.data:
        return apply(shipped, histories, name), "frozen, as shipped for ml-100k"
    return leave_one_out(histories), "leave one out by time"


def contents(histories: Histories) -> str:
    """sha256 of who met what, whatever the order."""
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    ordered = histories.flat[np.lexsort((histories.flat, owner))]
    return Histories(histories.users, histories.items, ordered, histories.starts).fingerprint()


def tied(histories: Histories, times: np.ndarray) -> float:
    """The share of users with three items or more whose last event has the time of the one before.

    times (events,) of histories.flat.
    """
    ends = histories.starts[1:][histories.lengths >= 3]
    return float((times[ends - 1] == times[ends - 2]).mean()) if len(ends) else 0.0


def _whole(split: Split) -> Histories:
    known = split.before_test()
    held = split.test != NONE
    flat: Ints = np.insert(known.flat, known.starts[1:][held], split.test[held])
    return Histories(known.users, known.items, flat, known.starts + np.concatenate([[0], np.cumsum(held)]))
