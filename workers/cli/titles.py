"""A file of titles to be scored: one a line, with what is known of it in further columns, as in a catalogue."""

import csv
import math
from pathlib import Path
from typing import Any

from broker.errors import InvalidParams


def read_titles(name: str) -> list[dict[str, Any]]:
    """[{item_id, title, features}]. Raises InvalidParams when it cannot be read or has no column `item`."""
    path = Path(name)
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise InvalidParams(f"{name}: titles are read from .csv or .tsv: write it as one of them")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", restval="")
            if "item" not in (columns := list(reader.fieldnames or ())):
                raise InvalidParams(f"{name} has no column 'item', it has {', '.join(map(repr, columns)) or 'none'}")
            titles = [_title(row) for row in reader]
    except OSError as error:
        raise InvalidParams(f"cannot read {name!r}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidParams(f"{name} is no table in UTF-8: {error}") from None
    if not titles:
        raise InvalidParams(f"{name} has no rows: give one item or more")
    return titles


def _title(row: dict[Any, Any]) -> dict[str, Any]:
    given = {name: value.strip() for name, value in row.items() if isinstance(value, str)}
    cells = {name: _cell(value) for name, value in given.items() if name not in ("item", "title")}
    features = {name: cell for name, cell in cells.items() if cell is not None}
    return {"item_id": given["item"], "title": given.get("title") or None, "features": features or None}


def _cell(text: str) -> Any:
    """As jobs.recommend.data reads a catalogue: a|b is a list, numbers are numbers; None where nothing is known."""
    if "|" in text:
        return [part for part in text.split("|") if part]
    if text.casefold() in ("true", "false"):
        return text.casefold() == "true"
    for kind in (int, float):
        try:
            return number if math.isfinite(number := kind(text)) else None
        except (ValueError, OverflowError):
            pass
    return text or None
