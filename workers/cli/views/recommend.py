"""Lists of items as a person reads them, each with its reasons below it when they are asked for."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from jobs.recommend.why import Shared, sentence
from workers.cli.output import table

_INDENT = 4


def listed(out: Console, items: Sequence[Mapping[str, Any]], *, why: bool, columns: Sequence[str] = ("score",)) -> None:
    """items: {item, title, …, why}; columns: further ones, numbers or text, before the reasons."""
    lines = [
        [str(place), str(each["title"]), str(each["item"]), *(_cell(each[name]) for name in columns)]
        for place, each in enumerate(items, 1)
    ]
    if not why and lines:
        out.print(table(["", "title", "item", *columns], lines))
        return
    for line, each in zip(lines, items, strict=True):
        place, title, item, *rest = line
        head = Text(f"{place:>{_INDENT - 1}} ").append(title, "bold").append(f"  {'  '.join([item, *rest])}")
        out.print(head, soft_wrap=True)
        for reason in _reasons(each["why"]):
            indent = " " * _INDENT
            wrapped = textwrap.wrap(reason, out.width, initial_indent=indent, subsequent_indent=indent + "  ")
            out.print("\n".join(wrapped), markup=False, soft_wrap=True)


def _reasons(why: Mapping[str, Any]) -> list[str]:
    shared = sentence([Shared(**each) for each in why["shared"]])
    like = "; ".join(each["title"] for each in why["like"])
    return [*([shared] if shared else []), *([f"like {like}"] if like else [])]


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
