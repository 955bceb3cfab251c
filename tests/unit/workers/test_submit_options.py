"""How a parameters model becomes options of the command line."""

import inspect
from typing import Any, Literal

import pytest
from pydantic import Field

from broker.errors import InvalidParams
from broker.fields import fields
from broker.job import Params
from workers.cli.submit import _parameter


class Rich(Params):
    """Everything a model may hold."""

    name: str
    ids: list[int] | None = None
    pairs: list[tuple[str, int]] = []
    options: dict[str, Any] = {}
    mode: Literal["a", "b"] = "a"
    force: bool = False
    rate: float | None = Field(None, gt=0, lt=1, description="Learning rate.")
    queue: str = "x"
    anything: Any = None


FIELDS = fields(Rich)


def options(name: str) -> Any:
    (option,) = _parameter(FIELDS[name]).annotation.__metadata__
    return option


def test_required_fields_are_required_options() -> None:
    empty = inspect.Parameter.empty

    assert [name for name, field in FIELDS.items() if _parameter(field).default is empty] == ["name"]


@pytest.mark.parametrize(
    ("name", "option", "metavar"),
    [
        ("name", "--name", "TEXT"),
        ("ids", "--ids", "INTEGER"),
        ("pairs", "--pairs", "JSON"),
        ("options", "--options", "JSON"),
        ("mode", "--mode", "a | b"),
        ("force", "--force/--no-force", None),
        ("rate", "--rate", "NUMBER"),
        ("queue", "--param-queue", "TEXT"),
        ("anything", "--anything", "JSON"),
    ],
)
def test_names_and_types_are_shown(name: str, option: str, metavar: str | None) -> None:
    shown = options(name)

    assert (shown.default, shown.metavar) == (option, metavar)


def test_help_has_the_description_the_limits_and_the_default() -> None:
    assert options("rate").help == "Learning rate. More than 0, less than 1."
    assert options("mode").help == "\\[default: a]"


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("name", "7", "7"),
        ("ids", ["1", "2"], ["1", "2"]),
        ("pairs", ['["a", 1]'], [["a", 1]]),
        ("options", '{"a": [1]}', {"a": [1]}),
        ("force", True, True),
        ("rate", "0.5", "0.5"),
        ("anything", "plain text", "plain text"),
        ("anything", "[1]", [1]),
    ],
)
def test_values_reach_the_model_as_it_takes_them(name: str, given: Any, value: Any) -> None:
    read = FIELDS[name].read("tests.rich", given)

    assert read == value
    Rich.model_validate({"name": "x", name: read})


def test_what_should_be_json_and_is_not_is_named() -> None:
    with pytest.raises(InvalidParams, match=r"tests.rich: options='\{a' is no JSON: write it like"):
        FIELDS["options"].read("tests.rich", "{a")
