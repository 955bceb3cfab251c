"""Reading users' tables: CSV, TSV and Parquet, with errors that name the file, the value and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from broker.errors import summary

PARQUET = (".parquet", ".pq")
DELIMITERS = {".csv": ",", ".txt": ",", ".tsv": "\t"}


class DataError(ValueError):
    """The data cannot be used as it is; the message names the file, the line or the value, and the remedy."""


def read(path: Path, delimiter: str | None = None, text: Sequence[str] = ()) -> pa.Table:
    """The table of a file, its kind by its suffix.

    `delimiter`: of a text file with another suffix. `text`: columns whose cells stay as they are written ("NA", "012",
    lines within quotes); such a file must be UTF-8. Raises DataError.
    """
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        try:
            return pyarrow.parquet.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(_unreadable(path, "Parquet", error)) from None
    if delimiter is None and suffix not in DELIMITERS:
        raise DataError(f"{path.name}: unknown kind of file {path.suffix!r}: use .csv, .tsv or .parquet")
    parsed = pyarrow.csv.ParseOptions(delimiter=delimiter or DELIMITERS[suffix], newlines_in_values=bool(text))
    options = {}
    if text:
        decoded(path)  # names the line, which pyarrow does not
        kinds = {name: pa.string() for name in text}
        options["convert_options"] = pyarrow.csv.ConvertOptions(column_types=kinds, strings_can_be_null=False)
    try:
        return pyarrow.csv.read_csv(path, parse_options=parsed, **options)
    except (pa.ArrowException, OSError) as error:
        raise DataError(_unreadable(path, "CSV", error)) from None


def need(table: pa.Table, file: str, columns: Sequence[str]) -> None:
    """Raises DataError for the first column that is not there."""
    for column in columns:
        if column not in table.column_names:
            has = ", ".join(map(repr, table.column_names)) or "no columns"
            raise DataError(f"{file} has no column {column!r}, it has {has}: name the right one in the parameters")


def decoded(path: Path) -> str:
    """A text file without its byte order mark. Raises DataError for the first line that is not UTF-8."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        remedy = "save it as UTF-8, for example with iconv -f GB18030 -t UTF-8"
        raise DataError(f"{path.name}:{line}: byte 0x{content[error.start]:02x} is not UTF-8: {remedy}") from None


def _unreadable(path: Path, kind: str, error: Exception) -> str:
    return f"{path.name} cannot be read as {kind}, it may be truncated ({summary(error)}): correct or write it again"
