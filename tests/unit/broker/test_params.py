"""Parameters are refused in one line that names the value and what would be right."""

import time
from typing import Any

import pytest
from pydantic import Field, field_validator

from broker.errors import InvalidParams
from broker.params import Params, parse


class Source(Params):
    """A part with names of its own."""

    user: str = "user"


class Fit(Params):
    """Fit something."""

    rows: int = Field(ge=1)
    name: str = "x"
    layers: list[int] = []
    source: Source = Source()

    @field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        if name == "bad":
            raise ValueError("No such model: use x")
        return name


class Empty(Params):
    """Nothing."""


@pytest.mark.parametrize(
    ("args", "kwargs", "line"),
    [
        ((), {}, "fit: rows is required: the parameters are rows, name, layers, source"),
        ((0,), {}, "fit: rows=0: input should be greater than or equal to 1"),
        ((1,), {"rows": 2}, "fit: rows is given twice, by position and by name"),
        ((1, 2, 3, 4, 5), {}, "fit takes rows, name, layers, source, but 5 positional arguments were given"),
        ((1,), {"nam": "x"}, "fit: unknown parameter nam: did you mean name?"),
        ((1,), {"zzz": 1}, "fit: unknown parameter zzz: the parameters are rows, name, layers, source"),
        ((), {"row": 1}, "fit: unknown parameter row: did you mean rows?"),
        ((1,), {"source": {"sourc": 1}}, "fit: unknown parameter source.sourc: correct its name or leave it out"),
        ((1, "bad"), {}, 'fit: name="bad": no such model: use x'),
        ((1,), {"layers": [1, "a"]}, 'fit: layers.1="a": input should be a valid integer'),
    ],
)
def test_the_line_of_a_refusal(args: tuple[object, ...], kwargs: dict[str, object], line: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        parse("fit", Fit, args, kwargs)

    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_a_long_value_is_shown_shortened() -> None:
    with pytest.raises(InvalidParams) as refused:
        parse("fit", Fit, (), {"rows": "r" * 10_000})

    assert len(str(refused.value)) < 250


def test_positions_fill_the_fields_in_their_order() -> None:
    assert parse("fit", Fit, (3, "n"), {"layers": [1]}) == Fit(rows=3, name="n", layers=[1])


def test_a_job_without_parameters_says_so() -> None:
    with pytest.raises(InvalidParams, match="empty takes no parameters, but 1 positional"):
        parse("empty", Empty, (1,), {})


class Anything(Params):
    """Whatever it is."""

    value: Any = None
    count: int = 0
    inner: "Anything | None" = None


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("kwargs", "line"),
    [
        (
            {"value": "x" * 2_000_000},
            "any: parameters of 2,000,0.. bytes: the limit is 1,048,576: put the data into a file",
        ),
        (
            {"value": list(range(300_000))},
            "any: parameters of .* bytes: the limit is 1,048,576: put the data into a file",
        ),
        ({"value": nested(32)}, "any: parameters 33 levels deep: the limit is 32: pass a flatter structure"),
        ({"value": [[], {"a": nested(40)}]}, "any: parameters 43 levels deep: the limit is 32"),
        ({"value": nested(100_000)}, "any: parameters nested hundreds of levels deep: the limit is 32"),
        ({"value": endless()}, "any: the parameters cannot be written as JSON: .*[Cc]ircular"),
        ({"count": nested(100_000)}, "any: count=<list>: input should be a valid integer"),
        ({"inner": {"inner": endless()}}, r"any: inner.inner=\[\[\.\.\.\]\]|any: inner.inner=<list>"),
        ({"value": 10**5000}, "any: parameters with a number of thousands of digits: pass it as text"),
        ({"count": "9" * 1_000_000}, 'any: count="9{76}...: unable to parse input string as an integer'),
        ({"x" * 1_000_000: 1}, "any: unknown parameter x{77}...: the parameters are value, count, inner"),
        ({"value": "\ud800"}, "any: the parameters cannot be written as JSON"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_is_too_large_or_too_deep_is_refused_in_one_short_line(kwargs: dict[str, Any], line: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidParams, match=f"^{line}") as refused:
        parse("any", Anything, (), kwargs)

    assert len(str(refused.value)) < 250
    assert "\n" not in str(refused.value)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "value",
    [nested(31), "[{" * 1000, '"[' * 100, "\\" * 99, ["[", "]"] * 50, [{}] * 1000, 10**3000, "x" * 1_000_000],
    ids=["31 levels", "brackets", "quotes", "backslashes", "flat", "wide", "3,000 digits", "1 MB"],
)
def test_what_is_within_the_limits_passes(value: Any) -> None:
    assert parse("any", Anything, (), {"value": value}) == Anything(value=value)
