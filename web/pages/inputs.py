"""A form for the fields of a model: what each is typed into, and what was typed as values."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.errors import InvalidParams
from broker.fields import Field, typed

_STEPS = {"integer": "1", "number": "any"}


@dataclass(frozen=True)
class Input:
    """One field of a form; `typed` is None where nothing was, and `wrong` says why that is refused, `otherwise` what
    holds without it where its schema does not."""

    field: Field
    name: str
    typed: str | None = None
    wrong: str = ""
    otherwise: str = "not given"

    @property
    def id(self) -> str:
        """Of the element."""
        return self.name.replace(".", "-")

    @property
    def widget(self) -> str:
        """What it is typed into. A box that is ticked has no third state, so that what may be left open is a choice."""
        if self.field.is_flag:
            return "select" if self.field.nullable else "checkbox"
        if self.field.many or self.field.is_json:
            return "textarea"
        return "select" if self.field.choices else "number" if self.field.kind.get("type") in _STEPS else "text"

    @property
    def choices(self) -> list[tuple[str, str]]:
        """Of a select: what is sent, and what is shown for it."""
        if self.field.is_flag:
            return [("true", "yes"), ("false", "no")]
        return [(str(each), str(each)) for each in self.field.choices]

    @property
    def bounds(self) -> dict[str, Any]:
        """Of a number: the attributes that a browser knows. It has none for bounds that are left out themselves."""
        kind = self.field.kind
        return {"step": _STEPS[kind["type"]]} | {
            name: kind[bound] for name, bound in (("min", "minimum"), ("max", "maximum")) if bound in kind
        }

    @property
    def default(self) -> str:
        """As it would be typed; empty for none."""
        return "" if self.field.default is None else typed(self.field.default)

    @property
    def empty(self) -> str:
        """What is shown in place of nothing."""
        return self.default or ("" if self.field.required else self.otherwise)

    @property
    def complaint(self) -> str:
        """What is wrong, without the name that stands above it."""
        return re.sub(rf"^{re.escape(self.field.name)}(=|: | )", "", self.wrong)

    @property
    def hint(self) -> str:
        """What is to be known before typing."""
        how = ""
        if self.field.many:
            how = "A JSON list." if self.field.is_json else "One a line, or a JSON list."
        elif self.field.is_json:
            how = "JSON." if self.field.kind.get("type") else "JSON, or text."
        if (parts := self.field.kind.get("properties")) and self.field.is_json:
            how = f"{how[:-1]} with {', '.join(parts)}."
        among = f"Of {', '.join(map(str, self.field.choices))}." if self.field.many and self.field.choices else ""
        return " ".join(filter(None, (self.field.description, self.field.bounds, among, how)))


def values(job: str, fields: Iterable[Field], sent: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What a form with these fields sent, for the model; and what is wrong with which of them. What was left empty is
    left out, and has its default."""
    found: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for each in fields:
        text = sent.get(each.name, "")
        if each.is_flag and not each.nullable:
            found[each.name] = each.name in sent
        elif text.strip():
            try:
                found[each.name] = _read(job, each, text)
            except InvalidParams as error:
                wrong |= error.fields
    return found, wrong


def _read(job: str, field: Field, text: str) -> Any:
    if not field.many:
        return field.read(job, text)
    if field.is_json or text.lstrip().startswith("["):
        return field.from_json(job, text)
    return field.read(job, [line.strip() for line in text.splitlines() if line.strip()])


def as_typed(fields: Iterable[Field], params: Mapping[str, Any]) -> dict[str, str]:
    """The reverse: these values as the form would send them, but for the defaults."""
    found = {}
    for each in fields:
        value = params.get(each.name)
        if each.is_flag and not each.nullable:
            if value:
                found[each.name] = "on"
        elif value is not None and value != each.default:
            found[each.name] = typed(value)
    return found
