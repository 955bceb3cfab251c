"""MovieLens' folders (files.grouplens.org/datasets/movielens), told apart by what is in them.

ratings.csv, movies.csv      ml-latest, 20m, 25m, 32m
ratings.dat, movies.dat      ml-1m (latin-1), 10m (UTF-8); fields between ::
u.data, u.item, u.genre      ml-100k (latin-1)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from broker.errors import summary
from jobs.recommend.sources.catalogue import Catalogue, Features
from jobs.recommend.sources.events import Columns
from jobs.training import tables
from jobs.training.tables import DataError

COLUMNS = Columns("userId", "movieId", "timestamp", "rating")
_YEAR = re.compile(r"^(?P<title>.*?)\s*\((?P<year>\d{4})(?:[-–]\s?\d{0,4})?\)\s*$", re.DOTALL)
_NO_GENRES = ("", "(no genres listed)", "unknown")
# A field between :: is every second one between single colons; a time is followed by none.
_COLONS = ["userId", "", "movieId", "", "rating", "", "timestamp"]


@dataclass(frozen=True)
class Layout:
    ratings: str
    films: str
    read: Callable[[Path, list[str]], pa.Table]
    rows: Callable[[Path], Iterator[tuple[str, str, list[str]]]]  # id, title with its year, genres


def layout(folder: Path) -> Layout:
    """What a folder is. Raises DataError."""
    for each in _LAYOUTS:
        if (folder / each.ratings).is_file():
            return each
    known = ", ".join(each.ratings for each in _LAYOUTS)
    raise DataError(f"the folder {str(folder)!r} is none of MovieLens', which has one of {known}: give a file")


def films(folder: Path, of: Layout) -> Catalogue:
    """Titles without their year, genres and year; nothing when there is no such file."""
    titles: dict[str, str] = {}
    features: dict[str, Features] = {}
    if not (folder / of.films).is_file():
        return Catalogue()
    for key, title, genres in of.rows(folder / of.films):
        dated = _YEAR.match(title)
        titles[key] = dated["title"] if dated and dated["title"] else title.strip() or key
        found: Features = {"genres": genre} if (genre := [each for each in genres if each not in _NO_GENRES]) else {}
        features[key] = found | ({"year": int(dated["year"])} if dated else {})
    return Catalogue(titles, features)


def _csv_ratings(path: Path, columns: list[str]) -> pa.Table:
    return tables.read(path, columns, (COLUMNS.user, COLUMNS.item))


def _csv_films(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    cells = tables.strings(path, ["movieId", "title", "genres"])
    for key, title, genres in zip(cells["movieId"], cells["title"], cells["genres"], strict=True):
        yield key, title, genres.split("|")


def _dat_ratings(path: Path, columns: list[str]) -> pa.Table:
    names = [name or f"_{place}" for place, name in enumerate(_COLONS)]
    return _read(path, names, ":", columns)


def _tab_ratings(path: Path, columns: list[str]) -> pa.Table:
    return _read(path, ["userId", "movieId", "rating", "timestamp"], "\t", columns)


def _read(path: Path, names: list[str], delimiter: str, columns: list[str]) -> pa.Table:
    ids = dict.fromkeys((COLUMNS.user, COLUMNS.item), pa.dictionary(pa.int32(), pa.string()))
    try:
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=names),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(include_columns=columns, column_types=ids),
        )
    except (pa.ArrowException, OSError) as error:
        said = f"{path.name} cannot be read as MovieLens' ratings ({summary(error)})"
        raise DataError(f"{said}: correct it, or fetch the data set again") from None


def _dat_films(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    for number, line in _lines(path):
        key, _, rest = line.partition("::")
        title, between, genres = rest.rpartition("::")  # a title may hold :: itself
        if not key or not between:
            raise DataError(f"{path.name}:{number}: {line[:100]!r} is not id::title::genres: correct it")
        yield key, title, genres.split("|")


def _bar_films(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    genres: dict[int, str] = {}
    if (path.parent / "u.genre").is_file():
        for _, line in _lines(path.parent / "u.genre"):
            name, _, place = line.partition("|")
            genres[int(place) if place.isdecimal() else len(genres)] = name
    for number, line in _lines(path):
        cells = line.split("|")
        if len(cells) < 5:
            raise DataError(f"{path.name}:{number}: {line[:100]!r} has {len(cells)} cells, not 5 or more: correct it")
        flagged = (place for place, flag in enumerate(cells[5:]) if flag == "1")
        yield cells[0], cells[1], [genres[place] for place in flagged if place in genres]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line


_LAYOUTS = (
    Layout("ratings.csv", "movies.csv", _csv_ratings, _csv_films),
    Layout("ratings.dat", "movies.dat", _dat_ratings, _dat_films),
    Layout("u.data", "u.item", _tab_ratings, _bar_films),
)
