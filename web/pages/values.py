"""What of a job's parameters and of its result is worth a look before all the rest of them."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from web.pages.words import readable

Values = dict[str, str]


def changed(params: Mapping[str, Any], model: type[BaseModel] | None) -> Values:
    """Those that differ from their defaults, in the model's order, and those that it does not know."""
    fields = model.model_fields if model else {}
    found = {name: value for name, value in params.items() if name not in fields or value != _default(fields[name])}
    order = [name for name in fields if name in found]
    return {name: _text(_without_null(found[name])) for name in [*order, *(found.keys() - fields.keys())]}


def scalars(result: Any) -> Values:
    """What of an object is a number, a text or a flag."""
    if not isinstance(result, dict):
        return {}
    return {name: _text(value) for name, value in result.items() if isinstance(value, (str, int, float))}


def number(value: Any) -> float | None:
    """As a float; None for what is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _default(field: Any) -> Any:
    return to_jsonable_python(field.get_default(call_default_factory=True), fallback=str)


def _without_null(value: Any) -> Any:
    """Parameters of parameters are mostly the nulls of what nobody asked for."""
    return {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else value


def _text(value: Any) -> str:
    if isinstance(value, float) and "e" not in (short := f"{value:.7g}"):
        return short
    return value if isinstance(value, str) else readable(value)
