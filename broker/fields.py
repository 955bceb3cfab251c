"""The fields of a parameters model as a person fills them in, on the command line or in a form.

What was typed goes to the parameters model as it is, so that it is refused with the same line as anywhere else; only
what is neither text, number, choice nor list of them is written as JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json

from broker.errors import InvalidParams

_BOUNDS = (("minimum", "at least"), ("exclusiveMinimum", "more than"),
           ("maximum", "at most"), ("exclusiveMaximum", "less than"))  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One parameter. kind: the JSON schema of its value, or of one of them where there are `many`; without None."""

    name: str
    description: str
    required: bool
    default: Any
    kind: Mapping[str, Any]
    many: bool
    nullable: bool

    @property
    def choices(self) -> list[Any]:
        """The values that there are, if they are listed."""
        return [self.kind["const"]] if "const" in self.kind else list(self.kind.get("enum", ()))

    @property
    def is_json(self) -> bool:
        """Whether a value is written as JSON."""
        return self.kind.get("type") in (None, "object", "array") and not self.choices

    @property
    def is_flag(self) -> bool:
        """Whether it is yes or no."""
        return not self.many and self.kind.get("type") == "boolean"

    @property
    def bounds(self) -> str:
        """In words: "At least 1, at most 5."."""
        said = ", ".join(f"{words} {self.kind[name]}" for name, words in _BOUNDS if name in self.kind)
        return f"{said}.".capitalize() if said else ""

    def read(self, job: str, given: Any) -> Any:
        """What was typed (of many: a list), for the parameters model. Raises InvalidParams for what is no JSON."""
        if self.is_flag:
            return given
        return [self._read(job, each) for each in given] if self.many else self._read(job, given)

    def from_json(self, job: str, given: str) -> Any:
        """A whole value that is written as JSON. Raises InvalidParams."""
        try:
            return from_json(given, allow_inf_nan=False)
        except ValueError:
            line = f"{self.name}={given!r} is no JSON: write it like '[1, 2]' or '{{}}'"
            raise InvalidParams(f"{job}: {line}", {self.name: line}) from None

    def _read(self, job: str, given: str) -> Any:
        if not self.is_json:
            return next((each for each in self.choices if str(each) == given), given)
        try:
            return self.from_json(job, given)
        except InvalidParams:
            if self.kind.get("type") is None:
                return given  # any value: what is no JSON is text
            raise


@cache
def fields(model: type[BaseModel]) -> dict[str, Field]:
    """The fields of this model by their names, in its order."""
    schema = model.model_json_schema(by_alias=False)
    defs = schema.get("$defs", {})
    return {
        name: _field(name, each, defs, required=model.model_fields[name].is_required())
        for name, each in schema.get("properties", {}).items()
    }


def typed(value: Any) -> str:
    """A value as one would type it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _field(name: str, schema: Mapping[str, Any], defs: Mapping[str, Any], *, required: bool) -> Field:
    known = [_resolve(each, defs) for each in schema.get("anyOf", [schema])]
    kinds = [each for each in known if each.get("type") != "null"] or [{}]
    lists = [each for each in kinds if each.get("type") == "array"]
    kind = _resolve(lists[0].get("items") or {}, defs) if lists else kinds[0]
    return Field(
        name=name, description=str(schema.get("description", "")), required=required, default=schema.get("default"),
        kind=kind, many=bool(lists), nullable=len(kinds) < len(known),
    )  # fmt: skip


def _resolve(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return defs[reference.rsplit("/", 1)[-1]] if reference else schema
