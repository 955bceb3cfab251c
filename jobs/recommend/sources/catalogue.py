"""Titles and features of items, and reading them from a table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from db.storable import NotStorable, encode
from jobs.training.tables import DataError

Features = dict[str, Any]  # JSON: name -> scalar or list of scalars
ITEM, TITLE = "item", "title"


@dataclass(frozen=True)
class Catalogue:
    """Titles and features of the items; an item that it does not name has its id as title and no features."""

    titles: dict[str, str] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)


def from_rows(name: str, rows: Iterable[dict[str, Any]]) -> Catalogue:
    """One row an item; every column but `item` and `title` is a feature, lists as such or `a|b|c` in text."""
    titles: dict[str, str] = {}
    features: dict[str, Features] = {}
    for number, row in enumerate(rows, 1):
        if (key := row.pop(ITEM)) in (None, ""):
            raise DataError(f"{name}: column {ITEM!r} is empty in row {number}: fill it or remove the row")
        key = str(key)
        titles[key] = str(row.pop(TITLE, None) or key)
        features[key] = {column: value for column, cell in row.items() if (value := _cell(cell)) not in (None, [])}
        try:
            encode([key, titles[key], features[key]])
        except NotStorable as error:
            raise DataError(
                f"{name}: row {number}, item {key[:40]!r}, has a value that is {error}: correct it"
            ) from None
    return Catalogue(titles, features)


def _cell(cell: Any) -> Any:
    if isinstance(cell, str):
        return [part for part in cell.split("|") if part] if "|" in cell else cell or None
    if isinstance(cell, list):
        return [part for part in cell if not _is_unknown(part)]
    if _is_unknown(cell):
        return None
    return cell if isinstance(cell, (int, float, bool)) else str(cell)


def _is_unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))  # pandas writes NaN
