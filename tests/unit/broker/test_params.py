"""Parameters are refused in one line that names the value and what would be right."""

import pytest
from pydantic import Field, field_validator

from broker.errors import InvalidParams
from broker.params import Params, parse


class Fit(Params):
    """Fit something."""

    rows: int = Field(ge=1)
    name: str = "x"
    layers: list[int] = []

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
        ((), {}, "fit: rows is required: the parameters are rows, name, layers"),
        ((0,), {}, "fit: rows=0: input should be greater than or equal to 1"),
        ((1,), {"rows": 2}, "fit: rows is given twice, by position and by name"),
        ((1, 2, 3, 4), {}, "fit takes rows, name, layers, but 4 positional arguments were given"),
        ((1,), {"nam": "x"}, "fit: unknown parameter nam: did you mean name?"),
        ((1,), {"zzz": 1}, "fit: unknown parameter zzz: the parameters are rows, name, layers"),
        ((), {"row": 1}, "fit: unknown parameter row: did you mean rows?"),
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
