"""Reading users' tables: CSV, TSV and Parquet, with errors that name the file, the value and the remedy."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from broker.errors import summary

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = (".parquet", ".pq")
DELIMITERS = {".csv": ",", ".txt": ",", ".tsv": "\t"}
_LONGEST = 2**31 - 1  # characters of a cell; the csv module's own limit is 131,072


class DataError(ValueError):
    """The data cannot be used as it is; the message names the file, the line or the value, and the remedy."""


def read(path: Path, columns: Sequence[str], texts: Sequence[str] = (), delimiter: str | None = None) -> pa.Table:
    """These columns of a file, its kind by its suffix; without any, all. Raises DataError, for a missing one as well.

    texts: columns of a text file that are ids, whatever they look like; each comes as a dictionary of its values, which
    takes 4 bytes a row. delimiter: of a text file with another one.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    suffix = path.suffix.lower()
    if delimiter is None and suffix not in (*PARQUET, *DELIMITERS):
        raise DataError(f"{path.name}: unknown kind of file {path.suffix!r}: use .csv, .tsv or .parquet")
    kind = "Parquet" if suffix in PARQUET else "CSV"
    try:
        if suffix in PARQUET:
            need(pyarrow.parquet.read_schema(path).names, path.name, columns)
            return pyarrow.parquet.read_table(path, columns=list(columns) or None)
        parsed = pyarrow.csv.ParseOptions(delimiter=delimiter or DELIMITERS[suffix])
        with pyarrow.csv.open_csv(path, parse_options=parsed) as header:
            need(header.schema.names, path.name, columns)
        kinds = {name: pa.dictionary(pa.int32(), pa.string()) for name in texts}
        convert = pyarrow.csv.ConvertOptions(include_columns=list(columns), column_types=kinds)
        try:  # a block at a time takes half the memory, and takes the kinds of columns from the first block
            with pyarrow.csv.open_csv(path, parse_options=parsed, convert_options=convert) as blocks:
                return blocks.read_all()
        except pa.ArrowInvalid:
            return pyarrow.csv.read_csv(path, parse_options=parsed, convert_options=convert)
    except (pa.ArrowException, OSError) as error:
        if "UTF8" in str(error) and kind == "CSV":
            decoded(path)  # which says where, and the remedy
        raise DataError(_unreadable(path, kind, error)) from None


def strings(path: Path, needed: Sequence[str], further: Sequence[str] = ()) -> dict[str, list[str]]:
    """The cells of these columns as they are written ("NA", "012", lines within quotes), of a table in UTF-8.

    An empty cell is "". Of `further` only those that are there. pyarrow is needed for Parquet alone. Raises DataError.
    """
    if path.suffix.lower() in PARQUET:
        table = _parquet(path)
        need(table.column_names, path.name, needed)
        there = [name for name in (*needed, *further) if name in table.column_names]
        return {name: [value or "" for value in table[name].cast("string").to_pylist()] for name in there}
    header, rows = _written(path)
    need(header, path.name, needed)
    places = {name: header.index(name) for name in (*needed, *further) if name in header}
    return {name: [row[place] for row in rows] for name, place in places.items()}


def need(columns: Sequence[str], file: str, needed: Sequence[str]) -> None:
    """Raises DataError for the first of `needed` that is not among the columns of a file or table."""
    for column in needed:
        if column not in columns:
            has = ", ".join(map(repr, columns)) or "no columns"
            raise DataError(f"{file} has no column {column!r}, it has {has}: name the right one in the parameters")


def decoded(path: Path) -> str:
    """A text file without its byte order mark. Raises DataError for the first line that is not UTF-8."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        remedy = (
            "save it as UTF-8, with iconv -f ENCODING -t UTF-8 (GB18030 for Chinese, WINDOWS-1252 for Western text)"
        )
        raise DataError(f"{path.name}:{line}: byte 0x{content[error.start]:02x} is not UTF-8: {remedy}") from None


def _parquet(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(_unreadable(path, "Parquet", error)) from None


def _written(path: Path) -> tuple[list[str], list[list[str]]]:
    """The first line's cells, and those of all others that are not empty."""
    csv.field_size_limit(_LONGEST)
    lines = io.StringIO(decoded(path), newline="")
    reader = csv.reader(lines, delimiter=DELIMITERS[path.suffix.lower()], strict=True)
    rows: list[list[str]] = []
    try:
        header = next(reader, [])
        for row in filter(None, reader):
            if len(row) != len(header):
                said = f"{len(row)} cells, the first line has {len(header)}"
                raise DataError(f"{path.name}:{reader.line_num}: {said}: correct it, or put quotes around the text")
            rows.append(row)
    except csv.Error as error:
        raise DataError(_unreadable(path, "CSV", error)) from None
    return header, rows


def _unreadable(path: Path, kind: str, error: Exception) -> str:
    return f"{path.name} cannot be read as {kind}, it may be truncated ({summary(error)}): correct or write it again"
