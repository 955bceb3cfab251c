"""Reading interactions and catalogues, and what is said of those that cannot be read."""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from jobs.recommend.data import Columns, DataError, load, read_catalogue
from jobs.recommend.histories import NONE, from_sequences, leave_one_out

GOOD = "user,item,timestamp\nb,x,3\na,x,5\na,y,1\na,z,5\n"


def write(folder: Path, text: str, name: str = "events.csv") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_events_come_in_time_order_and_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    dataset = load(write(tmp_path, GOOD))

    assert dataset.histories.users == ("a", "b")
    assert dataset.histories.ids(0) == ["y", "x", "z"]
    assert dataset.histories.ids(1) == ["x"]


def test_a_second_event_of_the_same_item_is_dropped(tmp_path: Path) -> None:
    dataset = load(write(tmp_path, GOOD + "a,y,9\n"))

    assert dataset.histories.ids(0) == ["y", "x", "z"]


def test_parquet_reads_like_csv(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    table = pa.table({"who": [2, 1, 1], "what": [7, 8, 10], "at": [1.5, 2.5, 0.5]})
    pyarrow.parquet.write_table(table, path)

    histories = load(str(path), Columns("who", "what", "at")).histories

    assert histories.items == ("7", "8", "10")  # numbers by value, not as text
    assert histories.ids(0) == ["10", "8"]


def test_dates_are_read_as_times(tmp_path: Path) -> None:
    text = "user,item,timestamp\na,late,2024-05-02 10:00:00\na,early,2023-01-01 00:00:00\n"

    assert load(write(tmp_path, text)).histories.ids(0) == ["early", "late"]


def test_a_lowest_rating_leaves_out_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path, "user,item,timestamp,stars\na,x,1,5\na,y,2,1\n")

    assert load(path, Columns(rating="stars"), min_rating=4).histories.ids(0) == ["x"]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (GOOD, Columns(user="who"), r"events.csv has no column 'who', it has 'user', 'item', 'timestamp'"),
        ("", Columns(), r"events.csv cannot be read as CSV, it may be truncated"),
        ("user,item,timestamp\n", Columns(), r"events.csv has no rows"),
        ("user,item,timestamp\na,x,1\nb,y\n", Columns(), r"events.csv cannot be read as CSV"),
        ("user,item,timestamp\na,x,soon\n", Columns(), r"column 'timestamp' holds 'soon' in row 1, which is no time"),
        ("user,item,timestamp\na,x,1\nb,y,\n", Columns(), r"column 'timestamp' is empty in 1 rows"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_remedy(
    tmp_path: Path, text: str, columns: Columns, message: str
) -> None:
    path = write(tmp_path, text)

    with pytest.raises(DataError, match=message) as caught:
        load(path, columns)

    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_kind_say_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere.csv' on the machine of this worker: give 'ml-100k' or the absolute path of a"
    ):
        load("nowhere.csv")
    with pytest.raises(DataError, match=r"unknown kind of file '.xls': use .csv, .tsv or .parquet"):
        load(write(tmp_path, GOOD, "events.xls"))


def test_a_file_in_another_encoding_is_told_from_a_truncated_one(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes("user,item,timestamp\nann,caf\u00e9,1\n".encode("latin-1"))

    with pytest.raises(DataError, match=r"^events\.csv:2: byte 0xe9 is not UTF-8: save it as UTF-8"):
        load(str(path))


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pyarrow.parquet.write_table(pa.table({"user": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:500])

    with pytest.raises(DataError, match=r"events.parquet cannot be read as Parquet, it may be truncated"):
        load(str(path))


def test_a_catalogue_takes_lists_and_scalars_as_features(tmp_path: Path) -> None:
    path = write(tmp_path, "item,title,genres,studio,year\n1,One,a|b,Ghibli,1988\n2,,c|,,\n", "items.csv")

    catalogue = read_catalogue(Path(path))

    assert catalogue.titles == {"1": "One", "2": "2"}
    assert catalogue.features["1"] == {"genres": ["a", "b"], "studio": "Ghibli", "year": 1988}
    assert catalogue.features["2"] == {"genres": ["c"]}


def test_what_is_unknown_in_parquet_is_no_feature_and_a_title_is_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    columns = {"year": [1999.0, float("nan")], "marks": [[1.0, float("nan")], None], "made": [date(2020, 1, 1)] * 2}
    pyarrow.parquet.write_table(pa.table({"item": ["1", "2"], **columns}), path)
    films = write(tmp_path, "item,title\n1,007\n2,1984\n", "films.csv")

    found = read_catalogue(path).features

    assert found == {"1": {"year": 1999.0, "marks": [1.0], "made": "2020-01-01"}, "2": {"made": "2020-01-01"}}
    assert read_catalogue(Path(films)).titles == {"1": "007", "2": "1984"}


def test_what_postgres_cannot_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pyarrow.parquet.write_table(pa.table({"item": ["1", "2"], "score": [1.0, float("inf")]}), path)

    with pytest.raises(
        DataError, match=r"items.parquet: row 2, item '2', has a value that is not JSON: .*: correct it"
    ):
        read_catalogue(path)
    with pytest.raises(
        DataError, match=r"films.csv: row 1, item 'a', has a value that is no text that Postgres stores"
    ):
        read_catalogue(Path(write(tmp_path, "item,title\na,b\0c\n", "films.csv")))


@pytest.mark.parametrize(
    ("column", "cells", "message"),
    [
        ("item", [["a"], ["b"]], r"column 'item' holds list<.*>, which are no ids: name another column"),
        ("user", ["a", "b\0"], r"column 'user' holds the id 'b\\x00', which has a NUL character"),
        ("user", ["a", "é" * 1001], r"column 'user' holds the id 'é+', which is longer than 2,000 bytes"),
        ("timestamp", [1.0, float("inf")], r"column 'timestamp' holds inf in row 2, which is no time"),
    ],
)
def test_cells_that_are_neither_ids_nor_times_are_named(
    tmp_path: Path, column: str, cells: list[Any], message: str
) -> None:
    path = tmp_path / "events.parquet"
    columns = {"user": ["a", "b"], "item": ["x", "y"], "timestamp": [1, 2]} | {column: cells}
    pyarrow.parquet.write_table(pa.table(columns), path)

    with pytest.raises(DataError, match=rf"^events.parquet: {message}"):
        load(str(path))


def test_movielens_has_its_known_size_and_genres() -> None:
    dataset = load("ml-100k")

    assert (len(dataset.histories), len(dataset.histories.items)) == (943, 1682)
    assert len(dataset.histories.flat) == 100_000
    assert dataset.catalogue.titles["1"] == "Toy Story"
    assert dataset.catalogue.features["1"] == {"genres": ["Animation", "Children's", "Comedy"], "year": 1995}


def test_the_last_item_is_the_test_and_the_one_before_the_validation() -> None:
    histories = from_sequences([[0, 1, 2, 3], [4, 5], [], [6, 7, 8]], [str(n) for n in range(9)])

    split = leave_one_out(histories)

    assert [list(row) for row in split.train] == [[0, 1], [4, 5], [], [6]]
    assert split.validation.tolist() == [2, NONE, NONE, 7]
    assert split.test.tolist() == [3, NONE, NONE, 8]
    assert [list(row) for row in split.before_test()] == [[0, 1, 2], [4, 5], [], [6, 7]]
