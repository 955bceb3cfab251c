"""What a scorer's words say: one number within the scale, from JSON or plain text, or else why there is none."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

_SCORE = ("score", "overall_score", "overall", "final_score", "rating")  # JSON names of the score itself
_WORDS = ("reasoning", "reason", "explanation", "rationale", "comment", "words")
_NESTED = ("parts", "scores", "sub_scores", "subscores")
LONGEST = 20_000  # characters that are looked at; a judge that goes on for longer has lost its way
KEPT = 2_000  # characters of its words that are kept

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width forms: ７．５ is 7.5
# A number with what belongs to it, and nothing behind that would make it another one: 7-8, 7,5, 70 %, 7th.
_NUMBER = (
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+))"
    r"(?:\s*(?:/|out\s+of)\s*(?P<top>[0-9]+(?:\.[0-9]+)?))?"
    r"(?:\s*(?:points?\b|pts\b|分))?"
    r"(?![0-9A-Za-z_]|[.,/:][0-9]|\s*[%％]|\s*(?:[-–—~]|to|or|/|out\s+of)\s*[0-9])"
)
_LABELLED = re.compile(
    r"(?:(?P<which>\b[A-Za-z]+)[ \t_]+)?"
    r"(?:\b(?:score|rating)\b|(?<![一-鿿])(?:总分|综合评分|最终评分|评分|得分|分数))"
    r"""(?:\s*\([^()\n]{0,40}\))?[\s*_"'`]*(?:is|of|are|为|是|[:=]|[-–—]\s)?[\s*_"'`]*""" + _NUMBER,
    re.IGNORECASE,
)
_ALONE = re.compile(r"^[\s*_#`]*" + _NUMBER + r"[\s*_.`]*$", re.MULTILINE)
_FRACTION = re.compile(r"(?<![\w./-])" + _NUMBER)
_WHOLE = {"overall", "final", "total"}
_PLAIN = {"the", "a", "my", "this", "its", "edit", "with", "give", "it"}


class Unparsable(ValueError):
    """The words hold no score that could be relied on; the message says why."""


@dataclass(frozen=True)
class Answer:
    score: float  # within the scale
    parts: dict[str, float] = field(default_factory=dict)  # sub-scores within the scale
    words: str = ""


def parse(text: str, scale: tuple[float, float], *, cut: bool = False) -> Answer:
    """The score in a model's answer.

    Accepted: a JSON object with a score (bare, in a code fence or in prose), "Score: 7", "7/10", or a number that
    stands on a line of its own. A number somewhere in prose is none: it may count anything. Two different scores, one
    outside the scale or of another scale ("3/5" where it ends at 10), a range and NaN are refused.

    cut: the answer was cut off at its longest, so a number at its very end may lack digits.
    Raises Unparsable.
    """
    read = text.translate(_WIDE).strip()
    # What a reasoning model weighs is not what it says.
    read = read.rpartition("</think>")[2].partition("<think>")[0].strip()
    if not read:
        raise Unparsable("the answer is empty")
    read = read[:LONGEST]
    if cut:
        read = re.sub(r"[0-9.,/]+$", "…", read)

    objects, rest = _objects(read)
    if found := [each for each in objects if any(name in each for name in _SCORE)]:
        answers = [_from_object(each, scale) for each in found]
        _one({answer.score for answer in answers})
        return answers[-1]
    return Answer(_from_text(rest, scale), {}, text.strip()[:KEPT])


def _objects(text: str) -> tuple[list[dict[str, Any]], str]:
    """The JSON objects in a text, outermost ones, with names in lower case; and the text without them.

    Where one is broken, as by being cut off, none are believed: what is inside of it is not the answer.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    found, rest, at = [], "", 0
    while (begin := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, begin)
        except Unparsable:
            raise
        except (ValueError, RecursionError):
            return [], text
        found.append(value)
        rest, at = rest + text[at:begin], end
    return found, rest + text[at:]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for key, value in pairs:
        name = key.strip().lower().replace(" ", "_").replace("-", "_")
        if name in _SCORE and name in named and named[name] != value:
            raise Unparsable(f"{name!r} is given twice: {named[name]!r} and {value!r}")
        named[name] = value
    return named


def _from_object(found: dict[str, Any], scale: tuple[float, float]) -> Answer:
    score = _one({_value(found[name], scale) for name in _SCORE if name in found})
    parts = dict(found)
    for name in _NESTED:
        if isinstance(nested := parts.pop(name, None), dict):
            parts |= nested
    kept = {
        str(name)[:100]: float(value)
        for name, value in parts.items()
        if name not in _SCORE and _is_number(value) and scale[0] <= value <= scale[1]
    }
    words = next((str(found[name]) for name in _WORDS if found.get(name)), "")
    return Answer(score, kept, words.strip()[:KEPT])


def _value(value: Any, scale: tuple[float, float]) -> float:
    if isinstance(value, str):
        matched = _ALONE.fullmatch(value.strip())
        if matched is None:
            raise Unparsable(f"the score {value[:60]!r} is no number")
        return _checked(matched, scale)
    if not _is_number(value):
        raise Unparsable(f"the score {str(value)[:60]!r} is no number")
    return _within(value, scale)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(_float(value))


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of 400 digits
        return math.inf


def _from_text(text: str, scale: tuple[float, float]) -> float:
    named = [each for each in _LABELLED.finditer(text) if (each["which"] or "the").lower() in _PLAIN | _WHOLE]
    whole = [each for each in named if (each["which"] or "").lower() in _WHOLE]
    found = whole or [*named, *_ALONE.finditer(text)]
    if not found:
        found = [each for each in _FRACTION.finditer(text) if each["top"]]
    if not found:
        raise Unparsable("there is no score in the answer")
    return _one({_checked(each, scale) for each in found})


def _checked(matched: re.Match[str], scale: tuple[float, float]) -> float:
    if matched["top"] and float(matched["top"]) != scale[1]:
        raise Unparsable(f"a score out of {matched['top'][:20]}, where the scale ends at {scale[1]:g}")
    return _within(float(matched["number"]), scale)


def _within(value: float, scale: tuple[float, float]) -> float:
    if not scale[0] <= value <= scale[1]:
        raise Unparsable(f"{_float(value):g} is not within {scale[0]:g} to {scale[1]:g}")
    return float(value)


def _one(scores: set[float]) -> float:
    if len(scores) > 1:
        raise Unparsable(f"ambiguous: {' and '.join(f'{each:g}' for each in sorted(scores)[:4])}")
    return scores.pop()
