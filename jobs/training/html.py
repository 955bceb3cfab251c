"""The pages of reports and their pieces: whatever they are given is text, never markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

STYLE = Path(__file__).with_name("page.css").read_text()  # light and dark, on paper and on a phone
_FRAME = Path(__file__).with_name("page.html")
_DIFFERENCE = re.compile(r"[+-]\d+\.?\d*")
_WORD = re.compile(r"(?!not known)[^\W\d]")  # what begins with a letter


def page(title: str, template: Path, style: str = STYLE, **pieces: str) -> str:
    """A page in one file, which loads nothing from elsewhere. `template`: what follows the title, with $names.

    `pieces` are markup, by these names.
    """
    content = Template(template.read_text()).substitute(pieces)
    return Template(_FRAME.read_text()).substitute(title=escape(title), style=style, content=content)


def bullets(lines: Sequence[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool] = (), notable: float | None = None
) -> str:
    """A table in a box that scrolls by itself; rows that are `marked` have the class "front", columns of texts "words".

    notable: a cell like "+2.5" has the class "better" or "worse" from this difference on.
    """
    words = [place > 0 and any(_WORD.match(row[place]) for row in rows) for place in range(len(columns))]
    head = "".join(
        f'<th scope="col"{_class(w and "words")}>{escape(c)}</th>' for c, w in zip(columns, words, strict=True)
    )
    lines = []
    for number, row in enumerate(rows):
        kinds = [(w and "words") or _tint(cell, notable) for cell, w in zip(row, words, strict=True)]
        cells = "".join(f"<td{_class(kind)}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        lines.append(f"<tr{_class(number < len(marked) and marked[number] and 'front')}>{cells}</tr>")
    # Focusable, or the keyboard could not scroll it.
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
        "</div>"
    )


def _class(name: str | bool) -> str:
    return f' class="{name}"' if name else ""


def _tint(cell: str, notable: float | None) -> str:
    if notable is None or not _DIFFERENCE.fullmatch(cell) or abs(float(cell)) < notable:
        return ""
    return "better" if cell[0] == "+" else "worse"
