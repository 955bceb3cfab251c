"""Files of a job's parameters as the machine that submits sees them: refused there, or left to the worker."""

from pathlib import Path

import pytest

from broker.errors import InvalidParams
from db.settings import settings
from jobs.edit.tasks import Evaluate as EvaluateEditor
from jobs.recommend.params import ImportData
from jobs.training import files

REMEDY = "correct it"


def test_what_is_nowhere_is_refused_where_the_workers_are_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "database_url", None)
    with pytest.raises(InvalidParams, match=r"^data: there is nothing at '.*/gone\.csv': correct it$") as caught:
        files.find("data", str(tmp_path / "gone.csv"), REMEDY)
    for impossible in ("a\0b", "x" * 5000):
        with pytest.raises(InvalidParams, match="there is nothing at"):
            files.find("data", impossible, REMEDY)

    assert list(caught.value.fields) == ["data"]
    assert files.find("data", str(tmp_path), REMEDY) == tmp_path
    monkeypatch.setattr(settings(), "database_url", "postgresql://elsewhere/gristmill")
    assert files.find("data", str(tmp_path / "gone.csv"), REMEDY) is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("e.csv", b"user,item,when\n", r"^data: e.csv has no column 'time', it has 'user', 'item', 'when'"),
        ("e.tsv", b"user,item,time\n", r"^data: e.tsv has no column 'user', it has 'user,item,time'"),
        ("e.csv", b"user,item,time,item\n", r"^data: e.csv has the column 'item' twice: rename one$"),
        ("e.csv", b"", r"^data: e.csv is empty: its first line names the columns user, item, time$"),
        ("e.xlsx", b"PK", r"^data: e.xlsx: unknown kind of file '.xlsx': use .csv, .tsv or .parquet$"),
        ("e.csv", b'\xef\xbb\xbfuser,"item",time\r\n', None),
        ("e.CSV", b"user,item,time", None),
        ("e.csv", b"\nuser,item,time\n", None),  # the worker's reader knows
        ("e.csv", b"user,item,time\ra,b,1\r", None),
        ("e.csv", b"user,item,time," + b"x" * 200_000, None),
        ("e.csv", b'"us\ner",user,item,time\n', None),
        ("e.parquet", b"PAR1", None),
    ],
)
def test_a_tables_first_line_has_the_columns(tmp_path: Path, name: str, content: bytes, said: str | None) -> None:
    place = tmp_path / name
    place.write_bytes(content)
    if said is None:
        files.check_table("data", place, ["user", "item", "time"])
        return
    with pytest.raises(InvalidParams, match=said):
        files.check_table("data", place, ["user", "item", "time"])


def test_a_relative_path_that_is_here_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("events.csv", "shop.db", "films", "run.yaml"):
        Path(name).touch()
    for name in ("ml-100k", "database"):
        Path(name).mkdir()

    def source(**given: str) -> tuple[str, str | None]:
        made = ImportData.model_validate(given)
        return made.data, made.catalogue

    assert source(data="events.csv", catalogue="gone.csv") == (str(tmp_path / "events.csv"), "gone.csv")
    assert source(data="sqlite:///shop.db", table="x", catalogue="films") == (f"sqlite:///{tmp_path}/shop.db", "films")
    assert source(data="ml-100k") == ("ml-100k", None)
    assert EvaluateEditor(config="~/run.yaml").config == str(tmp_path / "run.yaml")
    with pytest.raises(ValueError, match="at least 1 character"):
        source(data="")
