"""Fonts for the names that users give: Chinese, Japanese and Korean where an installed font has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import matplotlib
from matplotlib.font_manager import fontManager, get_font

_OURS = "DejaVu Sans"  # comes with matplotlib
_WIDE = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC",
    "Hiragino Sans GB", "Arial Unicode MS", "AR PL UMing CN", "AR PL UKai CN",
)  # fmt: skip


@contextmanager
def drawing(texts: Iterable[str]) -> Iterator[None]:
    """What is drawn meanwhile has the fonts that these texts need, where they are installed."""
    wanted = set("".join(texts))
    families = [_OURS, *(name for name in _installed() if not wanted <= _characters(_OURS))]
    with matplotlib.rc_context({"font.family": families}):
        yield


def lacks(text: str) -> bool:
    """Whether no installed font has some of its characters, which would be drawn as boxes."""
    wanted = {character for character in text if not character.isspace()} - _characters(_OURS)
    return bool(wanted) and not any(wanted <= _characters(name) for name in _installed())


def shown(text: str) -> str:
    """The text, with a question mark for each character that no font has."""
    return "".join("?" if lacks(character) else character for character in text)


def path(text: str) -> str | None:
    """The file of a font that has all its characters, for what draws without matplotlib; None if no font has."""
    wanted = {character for character in text if not character.isspace()}
    family = next((name for name in (_OURS, *_installed()) if wanted <= _characters(name)), None)
    return next((font.fname for font in fontManager.ttflist if font.name == family), None)


@cache
def _installed() -> tuple[str, ...]:
    there = {font.name for font in fontManager.ttflist}
    return tuple(name for name in _WIDE if name in there)


@cache
def _characters(family: str) -> frozenset[str]:
    path = next(font.fname for font in fontManager.ttflist if font.name == family)
    return frozenset(map(chr, get_font(path).get_charmap()))
