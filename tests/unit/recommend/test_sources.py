"""MovieLens' folders, tables of databases and files with mistakes."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from broker.errors import InvalidParams
from db.settings import SettingsError, redact
from jobs.recommend.data import Columns, DataError, Dataset, load
from jobs.recommend.popularity import decayed, popularity
from jobs.recommend.sources.settings import settings
from jobs.recommend.tasks import import_data

DAY = 86400


def histories(dataset: Dataset) -> dict[str, list[str]]:
    return {user: dataset.histories.ids(n) for n, user in enumerate(dataset.histories.users)}


FOLDERS = {
    "ml-1m": {
        "ratings.dat": "1::10::5::300\n1::20::1::200\n2::10::4::100\n",
        "movies.dat": "10::Léon (1994)::Action|Drama\n20::It :: Came (1995)::Horror\n30::Nobody Saw::Comedy\n",
        "users.dat": "1::F::1::10::48067\n",
    },
    "ml-25m": {
        "ratings.csv": "userId,movieId,rating,timestamp\n1,10,5.0,300\n1,20,0.5,200\n2,10,4.0,100\n",
        "movies.csv": 'movieId,title,genres\n10,Léon (1994),Action|Drama\n20,"It :: Came (1995)",Horror\n'
        "30,Nobody Saw,(no genres listed)\n",
    },
    "ml-100k": {
        "u.data": "1\t10\t5\t300\n1\t20\t1\t200\n2\t10\t4\t100\n",
        "u.genre": "unknown|0\nAction|1\nDrama|2\nHorror|3\n\n",
        "u.item": "10|Léon (1994)|01-Jan-1994||http://x|0|1|1|0\n20|It :: Came (1995)|||http://x|0|0|0|1\n"
        "30|Nobody Saw||||1|0|0|0\n",
    },
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_movielens_folder_is_told_by_what_is_in_it(tmp_path: Path, name: str) -> None:
    for file, content in FOLDERS[name].items():
        (tmp_path / file).write_text(content, encoding="utf-8" if file.endswith("csv") else "latin-1")

    dataset = load(str(tmp_path))

    assert histories(dataset) == {"1": ["20", "10"], "2": ["10"]}
    assert dataset.catalogue.titles == {"10": "Léon", "20": "It :: Came", "30": "Nobody Saw"}
    assert dataset.catalogue.features["10"] == {"genres": ["Action", "Drama"], "year": 1994}
    assert dataset.catalogue.features["20"] == {"genres": ["Horror"], "year": 1995}
    assert histories(load(str(tmp_path), min_rating=4)) == {"1": ["10"], "2": ["10"]}


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is none of MovieLens', which has one of ratings.csv, ratings.dat, u.data"):
        load(str(tmp_path))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A SQLite database, which the worker also knows by the name shop."""
    path = tmp_path / "the shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute('CREATE TABLE "its ratings" (who INTEGER, film TEXT, "when?" TIMESTAMP, stars REAL)')
        rows = [(1, "a", "2024-01-02 10:00:00", 5), (1, "b", "2023-05-01", 1), (2, "a", "2024-01-03", 3)]
        connection.executemany('INSERT INTO "its ratings" VALUES (?, ?, ?, ?)', rows)
        connection.execute("CREATE TABLE films (item TEXT, title TEXT, genres TEXT, year INTEGER)")
        connection.execute("INSERT INTO films VALUES ('a', 'Alien', 'Horror|Sci-Fi', 1979)")
        connection.execute("CREATE TABLE empty (user TEXT, item TEXT, timestamp INTEGER)")
    monkeypatch.setenv("GRISTMILL_DATABASES", f'{{"shop": "sqlite:///{path}"}}')
    settings.cache_clear()
    yield path
    settings.cache_clear()


COLUMNS = Columns("who", "film", "when?", "stars")


@pytest.mark.parametrize("named", [True, False])
def test_a_table_of_a_database_reads_like_a_file(shop: Path, named: bool) -> None:
    data = "sql:shop" if named else f"sqlite:///{shop}"

    dataset = load(data, COLUMNS, catalogue="films", table="its ratings")

    assert histories(dataset) == {"1": ["b", "a"], "2": ["a"]}
    assert dataset.catalogue.titles == {"a": "Alien"}
    assert dataset.catalogue.features == {"a": {"genres": ["Horror", "Sci-Fi"], "year": 1979}}
    assert histories(load(data, COLUMNS, min_rating=3, table="its ratings")) == {"1": ["a"], "2": ["a"]}


@pytest.mark.parametrize(
    ("data", "table", "message"),
    [
        ("sql:stall", "x", "no database 'stall' on this worker, it knows 'shop': name it in GRISTMILL_DATABASES"),
        ("sql:shop", "sales", "sql:shop has no table 'sales', it has 'empty', 'films', 'its ratings': name the"),
        ("sql:shop", 'x"; DROP TABLE films --', "sql:shop has no table"),
        ("sql:shop", "films", "sql:shop, table films has no column 'user', it has 'item', 'title', 'genres', 'year'"),
        ("sql:shop", "empty", "sql:shop empty has no rows"),
        ("sqlite:////nowhere.db", "x", "no file '/nowhere.db' on the machine of this worker"),
    ],
)
def test_what_a_database_has_not_is_named_in_one_line(shop: Path, data: str, table: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(data, table=table)

    assert "\n" not in str(caught.value)


def test_a_password_is_in_no_parameter_and_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+nodriver://reader:hidden-secret@db/shop"
    monkeypatch.setenv("GRISTMILL_DATABASES", f'{{"other": "sqlite:///x", "shop": "{url}"}}')
    settings.cache_clear()

    with pytest.raises(DataError, match="sql:shop: GRISTMILL_DATABASES has no URL for it that can be used") as caught:
        load("sql:shop", table="x")
    assert "hidden-secret" not in str(caught.value)
    assert "hidden-secret" not in redact("the password hidden-secret is wrong") + repr(settings())
    with pytest.raises(InvalidParams, match="data is a URL: name it on the workers, in GRISTMILL_DATABASES") as refused:
        import_data.submit(data=url, table="x")
    assert "hidden-secret" not in str(refused.value)
    monkeypatch.setenv("GRISTMILL_DATABASES", f'{{"shop": {url}')
    settings.cache_clear()
    with pytest.raises(SettingsError, match="GRISTMILL_DATABASES is no JSON object of names and URLs: write it like"):
        load("sql:shop", table="x")
    settings.cache_clear()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"data": "sql:shop"}, "data='sql:shop' is a database: name its table of interactions"),
        ({"data": "events.csv", "table": "x"}, "table='x' is of a database, data='events.csv' is none"),
    ],
)
def test_a_table_goes_with_a_database(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParams, match=message):
        import_data.submit(**params)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,x,1,5\n,y,2,5\n", "column 'user' is empty in 1 rows, first in row 2: fill or remove them"),
        ("a,x,1,5\nb,,2,5\nb,,3,5\n", "column 'item' is empty in 2 rows, first in row 2"),
        ("a,x,1,5\nb,y,soon,5\n", "column 'timestamp' holds 'soon' in row 2, which is no time"),
        ("a,x,1,5\nb,y,2024-01-01,5\n", "column 'timestamp' holds '1' in row 1, among others of another form"),
        ("a,x,1,5\nb,y,2,good\n", "column 'stars' holds 'good' in row 2, which is no number"),
        ("a,x,1,1\n", "has no rows whose 'stars' is 3 or more: lower min_rating"),
    ],
)
def test_mistakes_are_named_with_their_row(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "events.csv").write_text("user,item,timestamp,stars\n" + rows)

    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "events.csv"), Columns(rating="stars"), min_rating=3)


def test_ids_are_texts_as_they_are_written_and_what_is_left_out_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("user,item,timestamp,stars\n7,007,1,5\n7,7,2,5\n8,9,3,1\n")

    dataset = load(str(tmp_path / "e.csv"), Columns(rating="stars"), min_rating=3)

    assert (dataset.histories.users, dataset.histories.items) == (("7",), ("007", "7"))


def test_times_become_seconds_whatever_they_were(tmp_path: Path) -> None:
    for cells in (
        ["1700000000", "1700000060"],
        ["1700000000000", "1700000060000"],
        ["2023-11-14T22:13:20", "2023-11-14T22:14:20"],
        ["2023-11-14T22:13:20Z", "2023-11-14T23:14:20+01:00"],
    ):
        (tmp_path / "e.csv").write_text(
            "user,item,timestamp\n" + "".join(f"a,{n},{at}\n" for n, at in enumerate(cells))
        )

        times = load(str(tmp_path / "e.csv")).times

        assert times is not None
        assert times.tolist() == [1_700_000_000, 1_700_000_060]


def test_a_number_that_is_none_is_empty_in_parquet(tmp_path: Path) -> None:
    table = pa.table({"user": ["a", "b"], "item": ["x", "y"], "timestamp": [1.0, float("nan")]})
    pyarrow.parquet.write_table(table, tmp_path / "e.parquet")

    with pytest.raises(DataError, match="column 'timestamp' is empty in 1 rows, first in row 2"):
        load(str(tmp_path / "e.parquet"))


def test_an_event_counts_half_after_the_half_life(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(f"user,item,timestamp\na,old,0\nb,old,{90 * DAY}\nb,new,{90 * DAY}\n")
    dataset = load(str(tmp_path / "e.csv"))

    assert dataset.times is not None
    assert popularity(dataset.histories, dataset.times) == {"new": 1.0, "old": 1.5}
    assert decayed(0.0, 180 * DAY) == 0.25
