"""An instruction cut into tokens: phrases of the vocabulary, amounts with units, quoted texts, and what is left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from jobs.edit.vocabulary import phrases

_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ENGLISH = {word: n for n, word in enumerate(_ONES)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_ENGLISH |= {"fifteen": 15}
_ENGLISH |= {"hundred": 100, "a hundred": 100, "one hundred": 100}
_CHINESE = {digit: n for n, digit in enumerate("零一二三四五六七八九")} | {"两": 2}
_WORDS = "|".join(sorted(_ENGLISH, key=len, reverse=True))
_NUMBER = rf"(?:\d+(?:,\d{{3}})+|\d+(?:\.\d+)?|\.\d+|[零一二两三四五六七八九十百]+|(?:{_WORDS})(?:[- ](?:{_WORDS}))?)"
_PIXELS = r"\s*-?(?:px|pixels?|像素)"
_AMOUNTS = {
    "extent": rf"({_NUMBER})(?:{_PIXELS})?\s*(?:[x×*]|by)\s*({_NUMBER})(?:{_PIXELS})?(?![\d%])",
    "ratio": rf"({_NUMBER})\s*[:：]\s*({_NUMBER})",
    "fraction": r"(\d+)\s*/\s*(\d+)",
    "percent": rf"({_NUMBER})\s*(?:%|％|percent\b|per cent\b|pct\b)|百分之({_NUMBER})|([一二三四五六七八九])成",
    "degrees": rf"([-−]?{_NUMBER})\s*-?(?:°|degrees?\b|deg\b|度)",
    "pixels": rf"({_NUMBER}){_PIXELS}",
    "steps": rf"({_NUMBER})\s*-?(?:levels?\b|colou?rs?\b|tones?\b|shades?\b|色阶|级|阶|种颜色|个级别|个色阶)",
    "factor": rf"({_NUMBER})\s*(?:x(?![a-z])|times\b|×|倍)",
    "number": r"(\d+(?:\.\d+)?)",
}
_QUOTES = r"\"([^\"]*)\"|“([^”]*)”|‘([^’]*)’|「([^」]*)」|『([^』]*)』|(?<!\w)'(.+?)'(?!\w)"


@dataclass(frozen=True)
class Token:
    kind: str
    value: Any
    text: str


def lex(instruction: str) -> Iterator[Token]:
    """The tokens in their order. What no phrase or amount explains is of kind "unknown", a word at a time."""
    low = instruction.lower()
    low = low if len(low) == len(instruction) else instruction  # a letter that changes its length when lowered
    at = 0
    while at < len(low):
        if not _QUOTED.match(instruction, at) and (found := _SPACE.match(low, at)):
            at = found.end()
            continue
        kind, value, end = _next(instruction, low, at)
        yield Token(kind, value, instruction[at:end])
        at = end


def _next(instruction: str, low: str, at: int) -> tuple[str, Any, int]:
    if found := _QUOTED.match(instruction, at):
        return "quote", next(part for part in found.groups() if part is not None), found.end()
    if found := _BREAK.match(low, at):
        return "join", None, found.end()
    pattern, meanings = _lexicon()
    phrase = pattern.match(low, at)
    if not phrase or low[at].isdigit() or phrase.end() - at <= 2:  # "两" begins many phrases and amounts
        for kind, each in _PATTERNS.items():
            if (found := each.match(low, at)) and (not phrase or found.end() > phrase.end()):
                return kind, [_number(part) for part in found.groups() if part], found.end()
    if phrase:
        kind, value = meanings[phrase.group()]
        return kind, value, phrase.end()
    found = _WORD.match(low, at)
    return "unknown", None, found.end() if found else at + 1


def _number(text: str) -> float:
    """Of digits, or of English or Chinese numerals below a thousand."""
    text = text.replace(",", "").replace("−", "-")
    if text.lstrip("-")[:1] in set("0123456789."):
        return float(text)
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("-")
    if text in _ENGLISH:
        return sign * _ENGLISH[text]
    if text[0].isascii():
        return sign * float(sum(_ENGLISH[word] for word in re.split("[- ]", text)))
    total, digit = 0, 0
    for character in text:
        if character in "十百":
            total += (digit or 1) * (10 if character == "十" else 100)
            digit = 0
        else:
            digit = _CHINESE[character]
    return sign * float(total + digit)


@cache
def _lexicon() -> tuple[re.Pattern[str], dict[str, tuple[str, Any]]]:
    meanings = {phrase: (kind, value) for phrase, kind, value in phrases()}
    longest = sorted(meanings, key=len, reverse=True)
    # a word of Latin letters has to end where the phrase does; Chinese has no such ends
    pattern = "|".join(re.escape(each) + (r"(?![a-z])" if each[-1].isascii() else "") for each in longest)
    return re.compile(pattern), meanings


_SPACE = re.compile(r"\s+|[!?'’！？]+|\.(?=\s*$)")
_BREAK = re.compile(r"[,;，；、。]|\.(?!\d)|:|：")
_QUOTED = re.compile(_QUOTES)
_WORD = re.compile(r"[a-z0-9_'’-]+|[一-鿿]+?(?=[^一-鿿]|$)|\S")
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in _AMOUNTS.items()}
