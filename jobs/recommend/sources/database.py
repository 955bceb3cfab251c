"""Interactions and items from a database table, read as a stream.

The worker's setting GRISTMILL_DATABASES gives databases their names: a job names one (`sql:shop`), so that no password
is ever a parameter, which the ledger keeps and Flower shows. A SQLite file is named as such (`sqlite:///path`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from sqlalchemy import Connection, Engine, NullPool, TableClause, column, create_engine, inspect, select, table
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, NoSuchTableError, OperationalError

from broker.errors import GristmillError, summary
from db.settings import redact
from jobs.recommend.params import DATABASES, NAMED, SQLITE
from jobs.recommend.sources.catalogue import ITEM, Catalogue, from_rows
from jobs.recommend.sources.events import Columns
from jobs.recommend.sources.settings import VARIABLE, settings
from jobs.training import tables
from jobs.training.tables import DataError

ROWS = 50_000  # that the server sends at a time


class Unreachable(GristmillError):
    """The database does not answer now: another attempt may find it."""


def is_database(data: str) -> bool:
    return data.startswith(DATABASES)


def read_events(data: str, name: str, columns: Columns, *, rated: bool) -> pa.Table:
    """The named columns of a table; ids are dictionaries of texts. Raises DataError, Unreachable."""
    wanted = columns.all if rated else [each for each in columns.all if each != columns.rating]
    ids = {columns.user, columns.item}
    with _opened(data) as connection:
        source = _table(connection, data, name, columns.all)
        batches = [
            pa.table({each: _array(cells, each in ids) for each, cells in zip(wanted, part, strict=True)})
            for part in _parts(connection, source, wanted)
        ]
    return (
        pa.concat_tables(batches, promote_options="permissive") if batches else pa.table({each: [] for each in wanted})
    )


def read_catalogue(data: str, name: str) -> Catalogue:
    """Every column of a table of items. Raises DataError, Unreachable."""
    with _opened(data) as connection:
        source = _table(connection, data, name, [ITEM])
        names = [each.name for each in source.columns]
        parts = _parts(connection, source, names)
        return from_rows(
            name, (dict(zip(names, row, strict=True)) for part in parts for row in zip(*part, strict=True))
        )


@contextmanager
def _opened(data: str) -> Iterator[Connection]:
    """A connection for reading. What a driver says may quote the URL: its password is taken out."""
    try:
        engine = _engine(data)
        with engine.connect().execution_options(stream_results=True, yield_per=ROWS) as connection:
            yield connection
    except OperationalError as error:
        raise Unreachable(f"{data}: {redact(summary(error.orig))}: look whether the database is there") from None
    except DBAPIError as error:
        raise DataError(f"{data}: {redact(summary(error.orig))}: correct the table or its columns") from None


def _engine(data: str) -> Engine:
    if data.startswith(SQLITE):
        path = Path(data.removeprefix(SQLITE))
        if not path.is_file():
            raise DataError(f"{data}: no file {str(path.absolute())!r} on the machine of this worker: correct the path")
        # read-only: a mistyped path makes no empty database, and reading changes nothing
        uri = f"file:{quote(str(path.absolute()))}?mode=ro"
        return create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=NullPool)
    name, known = data.removeprefix(NAMED), settings().connections()
    if name not in known:
        listed = ", ".join(map(repr, sorted(known))) or "none"
        raise DataError(f"no database {name!r} on this worker, it knows {listed}: name it in {VARIABLE}")
    try:
        return create_engine(known[name], poolclass=NullPool, hide_parameters=True)
    except (ArgumentError, NoSuchModuleError, ImportError):  # their texts may quote the URL
        said = f"{data}: {VARIABLE} has no URL for it that can be used here"
        raise DataError(f"{said}: write postgresql+psycopg://…, or install the driver that it names") from None


def _table(connection: Connection, data: str, name: str, needed: Sequence[str]) -> TableClause:
    """The table, or schema.table, with all its columns. Raises DataError when it or one of `needed` is not there."""
    schema, _, bare = name.rpartition(".")
    looked = inspect(connection)
    for at, within in ((name, None), (bare, schema)) if schema else ((name, None),):
        try:
            found = [str(each["name"]) for each in looked.get_columns(at, within)]
        except NoSuchTableError:
            continue
        tables.need(found, f"{data}, table {name}", needed)
        return table(at, *map(column, found), schema=within)
    within = schema if schema in looked.get_schema_names() else None
    names = sorted([*looked.get_table_names(within), *looked.get_view_names(within)])
    there = ", ".join(map(repr, names[:20])) or "no tables"
    raise DataError(f"{data} has no table {name!r}, it has {there}: name the right one, or schema.table")


def _parts(connection: Connection, source: TableClause, names: Sequence[str]) -> Iterator[list[Sequence[Any]]]:
    """The table's columns of these names, in parts of rows."""
    rows = connection.execute(select(*(source.columns[name] for name in names)))
    for part in rows.partitions(ROWS):
        yield list(zip(*part, strict=True))


def _array(cells: Sequence[Any], is_id: bool) -> pa.Array:
    if is_id:
        return pa.array([None if cell is None else str(cell) for cell in cells], pa.string()).dictionary_encode()
    return pa.array([float(cell) if isinstance(cell, Decimal) else cell for cell in cells])
