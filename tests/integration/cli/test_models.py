"""The registry on the command line: a classifier's metrics and lineage, near names, and going back a version."""

from pathlib import Path
from typing import Any

import pytest

from db import registry
from db.engine import session
from db.store import Stored
from tests.integration.cli.conftest import Gristmill

pytestmark = pytest.mark.usefixtures("clean_db")


def add(
    name: str, *, over: int | None, lineage: dict[str, Any] | None = None, kind: str = "classify", **metrics: Any
) -> None:  # fmt: skip
    with session() as opened:
        digest = f"{name}-{metrics}".encode().hex()[:64]
        registry.record(opened, Stored(digest, 1, {}), kind, None)
        registry.add(opened, name, digest, metrics, lineage or {}, None, promote_over=over)


def test_a_classifier_is_listed_with_its_accuracy_the_baselines_and_what_it_came_from(gristmill: Gristmill) -> None:
    scores = {"accuracy": 0.9, "macro_f1": 0.8}
    add("teacher-news", over=None, dev=scores, baseline={"name": "SVM", "dev": {"accuracy": 0.85}}, in_use=scores)
    add("teacher-news-int8", over=None, lineage={"quantized_from": {"name": "teacher-news", "version": 1}}, dev=scores)

    first, second = gristmill("models").out.splitlines()[1:]

    assert "dev accuracy 0.9000, baseline dev accuracy 0.8500  " in first
    assert "in_use" not in first
    assert "quantized from teacher-news@1" in second
    assert [row["name"] for row in gristmill("models", "--name", "teacher-news", "--json").data] == ["teacher-news"]


def test_why_the_newest_version_is_not_in_use_is_said(gristmill: Gristmill) -> None:
    add("news", over=None, dev={"accuracy": 0.1})
    add("news", over=-1, lineage={"note": "not taken into use: worse"}, dev={"accuracy": 0.2})

    assert gristmill("models").out.splitlines()[-1] == "news 2: not taken into use: worse"

    add("news", over=1, dev={"accuracy": 0.3})
    assert "not taken into use" not in gristmill("models").out


def test_rolling_back_goes_to_the_version_that_was_in_use_before(gristmill: Gristmill) -> None:
    add("news", over=None, dev={"accuracy": 0.1})
    add("news", over=-1, lineage={"compared_with_version": 1, "note": "not taken into use"}, dev={"accuracy": 0.2})
    add("news", over=1, lineage={"compared_with_version": 1}, dev={"accuracy": 0.3})

    back = gristmill("models", "rollback", "news")

    assert back.out == "news: version 1 is in use again instead of 3\n"
    with session() as opened:
        assert (now := registry.current(opened, "news")) is not None
        assert now.version == 1
    again = gristmill("models", "rollback", "news")
    assert (again.code, again.err) == (2, "gristmill: nothing was in use before news version 1: there are versions 3, "
                                          "2, 1\n")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("models rollback news", "no version of news is in use: there is old"),
        ("models promote old 99999999999", "no model old version 99999999999: there are versions 1"),
        ("models --name news", "no model news: there is old"),
        ("score od some.txt", "model 'od' is not in the registry (there is old); nor is there such a folder"),
        ("score old@99999999999 some.txt", "model 'old' has no version 99999999999: it has 1"),
        ("score old@x some.txt", "model 'old@x': 'x' is no version"),
    ],
)
def test_bad_names_are_one_line(gristmill: Gristmill, tmp_path: Path, arguments: str, line: str) -> None:
    add("old", over=None)

    done = gristmill(*arguments.split())

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"gristmill: {line}")


@pytest.mark.parametrize("command", ["score {} some.txt", "submit classify.predict --model {} --text a"])
def test_where_a_classifier_is_asked_for_only_classifiers_are_offered(gristmill: Gristmill, command: str) -> None:
    add("films", over=None, kind="recommend")
    add("teacher", over=None)

    films, nobody = (gristmill(*command.format(name).split()) for name in ("films", "film"))

    assert films.err.startswith("gristmill: model 'films' is of kind 'recommend', no classifier (there is teacher)")
    assert nobody.err.startswith("gristmill: model 'film' is not in the registry (there is teacher)")
    assert (films.code, nobody.code) == (2, 2)
