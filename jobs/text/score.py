"""Scoring a classifier on any file of labelled texts, without a job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from jobs.text import readers
from jobs.text.metrics import confusion, macro_f1, measure
from jobs.text.models import open_model
from jobs.text.readers import Columns, DataError
from jobs.training import manifest

Array = np.ndarray[Any, Any]


def score(folder: Path, file: Path, columns: Columns | None = None, device: str = "cpu") -> dict[str, Any]:
    """The model in this folder on the texts of this file: what `gristmill score` prints.

    `macro_f1` is the mean over the classes that the file has or the model gave, as scikit-learn's is by default.
    Raises ValueError (DataError is one): what is wrong with either, in one line.
    """
    # The file first: loading torch and a model takes longer than to see what is wrong with it.
    texts, labels, by = truth(file, _classes(folder), columns or Columns())
    started = time.perf_counter()
    model = open_model(folder, device)
    loaded = time.perf_counter()
    logits = model.logits(texts)
    seconds = time.perf_counter() - loaded
    table = confusion(logits.argmax(axis=1), labels, len(model.classes))
    there = (table.sum(axis=0) + table.sum(axis=1)) > 0
    return {
        **measure(logits, labels),
        "macro_f1": macro_f1(table[np.ix_(there, there)]),
        "n": len(labels),
        "labels": by,
        "classes": len(model.classes),
        "form": model.manifest.get("form", "torch"),
        "load_s": round(loaded - started, 3),
        "texts_per_s": round(len(labels) / max(seconds, 1e-9), 1),
    }


def _classes(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(manifest.read(folder)["classes"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder} holds no classifier: give a name of `gristmill models`, or its folder") from None


def truth(file: Path, classes: tuple[str, ...], columns: Columns) -> tuple[list[str], Array, str]:
    """Texts, (N,) their classes, and whether the file has them as "ids" or as "names".

    Labels of a table are names, those of other files ids in the order of class.txt; whole files of the other kind are
    understood too. Where a class.txt lies beside the file and has the model's classes in another order, it counts.
    """
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "is not there"
        raise DataError(f"{file} {what}: give a file of text<TAB>label lines, or a .csv, .tsv or .parquet table")
    rows = readers.labelled(file, columns)
    if not rows.texts:
        raise DataError(f"{file.name} holds no texts: give one text<TAB>label a line")
    rows.refuse("the text is empty: remove the line", [not text.strip() for text in rows.texts])
    ids = {str(number): classes.index(name) for number, name in enumerate(_order(file, classes))}
    names = {name: number for number, name in enumerate(classes)}
    kinds = {"names": names, "ids": ids} if rows.unit else {"ids": ids, "names": names}
    by = max(kinds, key=lambda kind: sum(label in kinds[kind] for label in rows.labels))  # the first of equals
    few = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
    known = f"the model has {len(classes)} classes, ids 0-{len(classes) - 1}: {few}"
    rows.refuse(f"label {{value!r}} is unknown ({known}): correct it", [each not in kinds[by] for each in rows.labels])
    return rows.texts, np.array([kinds[by][label] for label in rows.labels], dtype=np.int64), by


def _order(file: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    beside = file.parent / readers.CLASSES
    if beside.is_file():
        found = readers.classes(beside)
        if sorted(found) == sorted(classes):
            return found
    return classes
