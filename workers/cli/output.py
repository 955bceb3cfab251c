"""What commands print: one JSON document with --json, else what a person reads."""

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_json = False
_ENDLESS = 10_000


def use_json(on: bool) -> None:
    """Set by the global option."""
    global _json
    _json = on


def is_json() -> bool:
    """For commands with a live display, which scripts do not want."""
    return _json


def show(data: Any, render: Callable[[Console], None] | None = None) -> None:
    """Print `data` as JSON when asked for; else let `render` print it, or print a string as it is.

    A terminal's lines fit it; in a pipe each line is whole, for grep and awk.
    """
    if _json:
        sys.stdout.write(json.dumps(data, default=_plain, ensure_ascii=False) + "\n")
        return
    terminal = sys.stdout.isatty()
    out = Console(highlight=False, width=None if terminal else _ENDLESS)
    if render is None:
        out.print(data, markup=False, soft_wrap=True)
    elif terminal:
        render(out)
    else:
        with out.capture() as caught:
            render(out)
        sys.stdout.writelines(line.rstrip() + "\n" for line in caught.get().splitlines())


def say(line: str) -> None:
    """Progress for a person: on stderr when stdout is for a script."""
    Console(highlight=False, stderr=_json).print(line, markup=False, soft_wrap=True)


def note(line: str) -> None:
    """What is no answer: on stderr, so that `id=$(gristmill submit …)` holds the id alone."""
    Console(highlight=False, stderr=True).print(line, markup=False, soft_wrap=True)


def must_be_new(folder: Path, option: str = "") -> None:
    """Raises InvalidParams for a folder that holds something."""
    from broker.errors import InvalidParams

    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InvalidParams(f"{option}{folder} is there already: name a folder that is new or empty")


def table(columns: list[str], rows: list[list[str]], *, one_line: bool = False) -> Table:
    """A plain table; cells are text, not markup. one_line: the last column is cut to what the terminal has room for."""
    from rich.text import Text

    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=one_line and column != columns[-1])
    for row in rows:
        *cells, last = (Text(cell) for cell in row)
        if one_line:
            last.no_wrap, last.overflow = True, "ellipsis"
        made.add_row(*cells, last)
    return made


def _plain(value: object) -> str:
    """Times as RFC 3339 writes them, so that other programs read them."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
