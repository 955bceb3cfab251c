"""Scoring a classifier on labelled files as people bring them: ids or names, tables, CRLF, marks, tabs, blank lines."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.text import score as module
from jobs.text.readers import Columns, DataError
from jobs.text.score import score, truth

CLASSES = ("sport", "news", "music")


class Keywords:
    """A classifier that goes by the text's first word."""

    classes = CLASSES
    manifest: dict[str, Any] = {"form": "torch"}

    def logits(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        return np.array([[5.0 * text.startswith(name) for name in CLASSES] for text in texts], dtype=np.float32)

    def predict(self, texts: Sequence[str], top_k: int = 1) -> list[dict[str, Any]]:
        raise NotImplementedError


def given(folder: Path, content: str | bytes, name: str = "held out.txt") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", "sport a\t0\nnews b\t1\nmusic c\t1\n"),
        ("names.txt", "sport a\tsport\nnews b\tnews\nmusic c\tnews"),
        ("windows.txt", b"\xef\xbb\xbfsport a\t0\r\n\r\nnews b\t1\r\n  \r\nmusic c\t1\r\n"),
        ("tabs within.txt", "sport\ta\t 0\nnews\t\tb\t1\nmusic c\t1 \n"),
        ("no suffix", "sport a\t0\nnews b\t1\nmusic c\t1\n"),
        ("no header.tsv", "sport a\t0\nnews b\t1\nmusic c\t1\n"),
        ("header.tsv", "label\ttext\nsport\tsport a\nnews\tnews b\nnews\tmusic c\n"),
        ("names.csv", 'text,label\n"sport, a",sport\nnews b,news\nmusic c,news\n'),
        ("ids.csv", "text,label\nsport a,0\nnews b,1\nmusic c,1\n"),
    ],
)
def test_a_labelled_file_of_any_kind_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | bytes
) -> None:
    monkeypatch.setattr(module, "open_model", lambda *_: Keywords())
    (tmp_path / "manifest.json").write_text(json.dumps({"classes": CLASSES}))

    found = score(tmp_path, given(tmp_path, content, name))

    assert found["n"] == 3
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_a_class_that_is_neither_there_nor_predicted_does_not_lower_macro_f1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_model", lambda *_: Keywords())
    (tmp_path / "manifest.json").write_text(json.dumps({"classes": CLASSES}))

    assert score(tmp_path, given(tmp_path, "sport a\t0\nnews b\t1\n"))["macro_f1"] == 1


def test_ids_go_by_the_class_txt_beside_the_file_where_it_has_another_order(tmp_path: Path) -> None:
    given(tmp_path, "music\nsport\nnews\n", "class.txt")
    file = given(tmp_path, "music c\t0\nsport a\t1\n")

    assert truth(file, CLASSES, Columns())[1].tolist() == [2, 0]

    given(tmp_path, "other\nclasses\n", "class.txt")
    assert truth(file, CLASSES, Columns())[1].tolist() == [0, 1]


def test_classes_that_are_numbers_are_ids_in_lines_and_names_in_tables(tmp_path: Path) -> None:
    stars = ("1", "2", "3")

    assert truth(given(tmp_path, "a\t0\nb\t2\n"), stars, Columns())[1].tolist() == [0, 2]
    assert truth(given(tmp_path, "a\t1\nb\t3\n"), stars, Columns())[1].tolist() == [0, 2]
    assert truth(given(tmp_path, "text,label\na,1\nb,2\n", "a.csv"), stars, Columns())[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x\t0\n\ny\t3\nz\t4\n", r"a.txt:3: label '3' is unknown \(the model has 3 classes, ids 0-2: sport, .*"
         r"\): correct it \(and 1 more like it\)"),
        ("a.txt", "x\tsport\ny\tSport\n", r"a.txt:2: label 'Sport' is unknown"),
        ("a.txt", "x\t0\ny 1\n", r"a.txt:2: no tab in the line: write text<TAB>label_id"),
        ("a.txt", "x\t0\n\t1\n", r"a.txt:2: the text is empty"),
        ("a.txt", "\n \n", r"a.txt holds no texts"),
        ("a.txt", "体育\t0\n".encode("gb18030"), r"a.txt:1: byte 0xcc is not UTF-8"),
        ("a.csv", "title,label\nx,0\n", r"a.csv has no column 'text', it has 'title', 'label'"),
        ("a.csv", "text,label\nx,jazz\n", r"a.csv:row 1: label 'jazz' is unknown"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        truth(given(tmp_path, content, name), CLASSES, Columns())

    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_a_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.txt is not there: give a file"):
        truth(tmp_path / "nowhere.txt", CLASSES, Columns())
    with pytest.raises(DataError, match=r"is a folder: give a file"):
        truth(tmp_path, CLASSES, Columns())


def test_a_classs_name_may_have_braces(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ids 0-1: \{a\}, \{b!r\}\)"):
        truth(given(tmp_path, "x\t5\n"), ("{a}", "{b!r}"), Columns())


def test_a_folder_without_a_classifier_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no classifier: give a name of `gristmill models`, or its folder"):
        score(tmp_path, given(tmp_path, "a\t0\n"))
