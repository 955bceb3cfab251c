"""Which classes a run's configuration may name, and what it is told otherwise."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.errors import JobError
from jobs.edit.adapters import resolve
from jobs.edit.adapters.base import AdapterError, Editor, Scorer
from jobs.edit.settings import settings

OWN = """
from jobs.edit.adapters.base import Editor, checked

class Mine(Editor):
    name = "mine"

    @checked
    def __init__(self, *, strength: float = 1.0) -> None:
        self.strength = strength

class Plain(Editor):
    def __init__(self, *, strength):
        self.strength = 1 / strength

class NoEditor:
    pass
"""


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "ownadapters.py").write_text(OWN)
    (tmp_path / "brokenadapters.py").write_text("import there_is_no_such_module")
    (tmp_path / "failingadapters.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(
        "GRISTMILL_EDIT_ADAPTERS",
        "ownadapters.*, brokenadapters.Mine,failingadapters.Mine,no.such.Class,json.JSONDecoder",
    )
    settings.cache_clear()
    yield
    settings.cache_clear()
    for name in ("ownadapters", "brokenadapters", "failingadapters"):
        sys.modules.pop(name, None)


def refusal(spec: dict[str, object]) -> str:
    with pytest.raises(AdapterError) as caught:
        resolve.editor(spec)
    assert isinstance(caught.value, JobError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", resolve.BUILT_IN)
def test_each_built_in_class_exists_and_is_what_it_is_listed_as(name: str) -> None:
    found = resolve._class(
        Editor if name in ("procedural", "qwen-image-edit", "qwen-image-edit-plus") else Scorer, "", name
    )

    assert found.__name__ == resolve.BUILT_IN[name].rpartition(".")[2]


def test_near_names_are_offered_for_an_unknown_one() -> None:
    assert "did you mean qwen-image-edit" in refusal({"class": "qwen-image-edt"})
    assert "use one of procedural" in refusal({"class": "xyz"})
    assert "use one of" in refusal({})


def test_a_class_outside_the_workers_list_is_not_even_imported() -> None:
    said = refusal({"class": "os.path.Mine"})

    assert "GRISTMILL_EDIT_ADAPTERS" in said
    assert "antigravity" not in sys.modules
    refusal({"class": "antigravity.Mine"})
    assert "antigravity" not in sys.modules


def test_a_listed_class_is_made_with_its_parameters_and_the_workers_device() -> None:
    made = resolve.editor({"class": "ownadapters.Mine", "parameters": {"strength": 2}}, device="cuda:1")

    assert made.identity() == {"class": "ownadapters.Mine", "name": "mine", "parameters": {"strength": 2}}
    assert made.device == "cuda:1"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (
            {"class": "ownadapters.Mine", "parameters": {"strenght": 2}},
            "unexpected keyword.*'strenght'.*strength",
        ),
        ({"class": "ownadapters.Mine", "parameters": {"strength": "much"}}, "strength='much': Input should be a valid"),
        ({"class": "ownadapters.Plain", "parameters": {}}, "missing a required.*strength"),
        ({"class": "ownadapters.Plain", "parameters": {"strength": 0}}, "ZeroDivisionError"),
        ({"class": "ownadapters.NoEditor"}, "is no editor"),
        ({"class": "json.JSONDecoder"}, "is no editor"),
        ({"class": "measured"}, "is no editor"),
        ({"class": "ownadapters.Missing"}, "cannot be imported"),
        ({"class": "no.such.Class"}, "cannot be imported.*no"),
        ({"class": "brokenadapters.Mine"}, "cannot be imported.*there_is_no_such_module"),
        ({"class": "failingadapters.Mine"}, "its module fails: ZeroDivisionError"),
        ({"class": "endpoint", "parameters": {"url": "ftp://x", "model": "m"}}, "is no editor"),
    ],
)
def test_what_is_wrong_is_one_line(spec: dict[str, object], why: str) -> None:
    said = refusal(spec)

    assert re.search(why, said), said


def test_a_built_in_whose_library_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(resolve.BUILT_IN, "procedural", "brokenadapters.Mine")

    assert "pip install" in refusal({"class": "procedural"})
