"""Which of our item ids a source's id stands for, from a file of two columns."""

from __future__ import annotations

from pathlib import Path

from jobs.training import tables
from jobs.training.tables import DataError

SOURCE, ITEM = "source", "item"


def read_mapping(path: Path) -> dict[str, str]:
    """Source id -> item id, of a .csv, .tsv or .parquet file with the columns `source` and `item`. Raises DataError."""
    if not path.is_file():
        raise DataError(f"no file {str(path.absolute())!r} on the machine of this worker: give an absolute path")
    cells = tables.strings(path, [SOURCE, ITEM])
    mapping: dict[str, str] = {}
    for row, (source, item) in enumerate(zip(cells[SOURCE], cells[ITEM], strict=True), 1):
        if not source or not item:
            raise DataError(f"{path.name}: row {row} has no {ITEM if source else SOURCE}: fill it or remove the row")
        if mapping.setdefault(source, item) != item:
            raise DataError(f"{path.name}: row {row} maps {source!r} a second time, to {item!r}: keep one of them")
    return mapping
