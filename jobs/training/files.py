"""Files that a job's parameters name, looked at where it is submitted, as far as they can be seen from there (light).

The disk that counts is the worker's. With embedded servers the workers are on this machine, and what is not here is
refused; else they may be elsewhere, so that what is not here is left to them. What is here is looked at: its kind, and
the columns of a text file. Neither reads more than a line.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from broker.errors import InvalidParams
from broker.limits import shown
from db.settings import settings
from jobs.training.tables import DELIMITERS, PARQUET, DataError, need

_LINE = 1 << 20  # bytes


def absolute(path: str) -> str:
    """A relative path that is here is meant from here: a worker runs in a folder of its own."""
    place = Path(os.path.expanduser(path))
    return str(place.absolute()) if path and not Path(path).is_absolute() and _is_there(place) else path


FilePath = Annotated[str, AfterValidator(absolute)]


def is_table(path: str) -> bool:
    """Whether it is called like a file that holds a table."""
    return Path(path).suffix.lower() in (*PARQUET, *DELIMITERS)


def find(parameter: str, path: str, remedy: str) -> Path | None:
    """The file or folder; None when it is not to be seen from here. Raises InvalidParams when it is nowhere."""
    place = Path(path)
    if _is_there(place):
        return place
    if settings().database_url is None:
        raise refusal(parameter, f"there is nothing at {shown(str(place.absolute()))}: {remedy}")
    return None


def check_table(parameter: str, place: Path, needed: Sequence[str]) -> None:
    """Raises InvalidParams for a file that is no table, or whose first line lacks one of the columns."""
    if not is_table(place.name):
        raise refusal(parameter, f"{place.name}: unknown kind of file {place.suffix!r}: use .csv, .tsv or .parquet")
    if (suffix := place.suffix.lower()) in PARQUET or (line := _first_line(place)) is None:
        return
    if not line:
        raise refusal(parameter, f"{place.name} is empty: its first line names the columns {', '.join(needed)}")
    try:
        columns = next(csv.reader([line], delimiter=DELIMITERS[suffix]))
    except csv.Error:  # a cell without end, lines that end otherwise: the worker's reader knows
        return
    if twice := [each for each in needed if columns.count(each) > 1]:
        raise refusal(parameter, f"{place.name} has the column {twice[0]!r} twice: rename one")
    try:
        need(columns, place.name, needed)
    except DataError as error:
        raise refusal(parameter, str(error)) from None


def refusal(parameter: str, said: str) -> InvalidParams:
    """What says in one line which parameter is refused, why, and the remedy."""
    line = f"{parameter}: {said}"
    return InvalidParams(line, {parameter: line})


def _first_line(place: Path) -> str | None:
    """None where only the worker can say: as another user it may read the file, or the line is not all of it."""
    try:
        with place.open("rb") as file:
            line = file.readline(_LINE)
    except OSError:
        return None
    whole = len(line) < _LINE and line.count(b'"') % 2 == 0 and (line.strip() or not line)
    return line.decode("utf-8-sig", errors="replace") if whole else None


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except (OSError, ValueError):  # too long, or of characters that no path has
        return False
