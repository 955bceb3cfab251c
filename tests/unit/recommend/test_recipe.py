"""What a training without some parameter does is said where the parameter is described."""

from dataclasses import fields

import pytest

from jobs.recommend.fit import QUICK, Recipe
from jobs.recommend.params import Train

OPEN = [each.name for each in fields(Recipe) if each.name in Train.model_fields and each.name != "seed"]


def said(value: object) -> str:
    return str(value).lower() if isinstance(value, bool | str) else f"{value:g}"


@pytest.mark.parametrize("name", OPEN)
def test_a_parameter_says_which_default_its_preset_gives_it(name: str) -> None:
    default, quick = (said(getattr(recipe, name)) for recipe in (Recipe(), QUICK))

    described = Train.model_fields[name].description or ""

    assert f"Default: {default}" in described
    assert (f"; quick: {quick}." in described) == (quick != default)
