"""Reads an instruction in English or Chinese as a list of operations, or says which of its words it does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

from jobs.edit import asked
from jobs.edit.asked import Operation
from jobs.edit.lexer import Token, lex

_TABLE = "docs/recipes/edit-instructions.md has the words that are"
_AMOUNTS = ("extent", "ratio", "fraction", "percent", "degrees", "pixels", "steps", "factor", "number", "share")
_MODIFIERS = frozenset(
    (*_AMOUNTS, "quote", "degree", "size", "colour", "row", "column", "place", "sides", "axis", "turn", "shape")
)  # what may follow after a comma and still belong to the operation before it
_GIVES_WAY = {  # the first is the general word where the second is there: "sepia tint", "rotate the hue"
    ("tint", "sepia"), ("tint", "warmth"), ("resize", "enlarge"), ("resize", "shrink"), ("rotate", "upside down"),
    ("flip", "upside down"), ("rotate", "hue"), ("flip", "mirror"), ("crop", "trim"), ("rotate", "flip"),
    ("tint", "hue"), ("rotate", "mirror"), ("rotate", "grayscale"), ("rotate", "sepia"), ("rotate", "invert"),
    ("light", "vignette"), ("grayscale", "sepia"), ("resize", "crop"),
}  # fmt: skip


class NotUnderstood(ValueError):
    """The instruction asks for something that is not in the grammar; the message names the words."""


class Clause:
    """One part of an instruction. What of it is not used in the end was not understood."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = list(tokens)
        self.used: set[str] = {"to", "by"}
        self.general: list[str] = []

    @property
    def words(self) -> str:
        return " ".join(token.text for token in self.tokens).strip()

    def has(self, *kinds: str) -> bool:
        return any(token.kind in kinds for token in self.tokens)

    def only(self, kinds: frozenset[str]) -> bool:
        return all(token.kind in kinds or token.kind in ("to", "by") for token in self.tokens)

    def take(self, kind: str) -> Any:
        """The value of the one token of this kind, or None. Raises NotUnderstood for two that differ."""
        self.used.add(kind)
        values = {str(token.value): token for token in self.tokens if token.kind == kind}
        if len(values) > 1:
            both = " and ".join(repr(token.text) for token in values.values())
            raise NotUnderstood(f"{both} stand in one part of the instruction: put 'and' or a comma between them")
        return next((token.value for token in values.values()), None)

    def amount(self, kind: str) -> float | None:
        value = self.take(kind)
        return None if value is None else float(value[0])

    def target(self, *kinds: str) -> bool:
        """Whether its amount is what the result shall be ("to 50 %"), not the change."""
        before = ""
        for token in self.tokens:
            if token.kind in kinds:
                return before == "to"
            before = token.kind
        return False

    def head(self) -> tuple[str, int]:
        """What it asks for, and in which direction: 1 more, -1 less, 0 not said."""
        found = {token.value: token for token in self.tokens if token.kind in ("operation", "attribute")}
        self.used |= {"operation", "attribute"}
        names = {value.split("|")[0].rstrip("?"): value for value in found}
        for general, special in _GIVES_WAY:
            if special in names and names.pop(general, None):
                self.general.append(general)
        if len(names) > 1:
            both = " and ".join(repr(found[value].text) for value in names.values())
            raise NotUnderstood(f"{both} stand in one part of the instruction: put 'and' or a comma between them")
        if not names:
            raise NotUnderstood(f"{self.words!r} names nothing to change: {_TABLE}")
        name, value = names.popitem()
        direction = {"more": 1, "less": -1}.get(value.partition("|")[2], 0)
        return name, direction

    def leftover(self, name: str) -> None:
        rest = [token.text for token in self.tokens if token.kind not in self.used]
        if rest:
            raise NotUnderstood(f"{_list(rest)} in {self.words!r} cannot be done by {name!r}: {_TABLE}")


def parse(instruction: str) -> list[Operation]:
    """The operations in their order, at least one.

    Raises NotUnderstood, in one line, for an empty instruction, for words that the grammar does not know, for two
    things asked in one breath, and for amounts that make no sense: nothing is left out silently.
    """
    if not instruction.strip():
        raise NotUnderstood("the instruction is empty: say what to change")
    tokens = [token for token in lex(instruction) if token.kind not in ("fill", "keep")]
    if unknown := [token.text for token in tokens if token.kind == "unknown"]:
        raise NotUnderstood(f"not understood in {_short(instruction)!r}: {_list(unknown)}: {_TABLE}")
    clauses = _shared(_clauses(tokens))
    if not clauses:
        raise NotUnderstood(f"{_short(instruction)!r} names nothing to change: {_TABLE}")
    return [_operation(clause) for clause in clauses]


def _clauses(tokens: Sequence[Token]) -> list[Clause]:
    """The parts between "and", "then" and commas; a part that only says more of the one before it is put to that."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == "join":
            parts.append([])
        else:
            parts[-1].append(token)
    clauses: list[Clause] = []
    waiting: list[Token] = []
    for part in filter(None, parts):
        clause = Clause([*waiting, *part])
        if not clause.only(_MODIFIERS | {"direction"}):
            clauses.append(clause)
            waiting = []
        elif clauses and not waiting and not any(clauses[-1].has(token.kind) for token in part):
            clauses[-1].tokens += part
        elif clauses and clauses[-1].has("axis") and clause.has("axis"):  # "flip horizontally and vertically"
            verbs = [token for token in clauses[-1].tokens if token.kind == "operation"]
            clauses.append(Clause([*verbs, *part]))
        else:
            waiting = clause.tokens
    if waiting:
        raise NotUnderstood(f"{Clause(waiting).words!r} does not say what to change: {_TABLE}")
    return clauses


def _shared(clauses: list[Clause]) -> list[Clause]:
    """Gives "increase brightness and contrast by 20%" its direction and amount for both."""
    amounts = ("percent", "share", "factor", "fraction", "degree")
    for before, after in pairwise(clauses):
        if _bare(after) and before.has("direction"):
            after.tokens = [*(token for token in before.tokens if token.kind == "direction"), *after.tokens]
            if not before.has(*amounts):
                before.tokens += [token for token in after.tokens if token.kind in (*amounts, "to")]
    for after, before in pairwise(reversed(clauses)):
        if _bare(before) and after.has("direction") and after.has("attribute"):
            before.tokens += [token for token in after.tokens if token.kind in ("direction", "to", *amounts)]
    return clauses


def _bare(clause: Clause) -> bool:
    """Whether it names an attribute and does not say what shall become of it."""
    return clause.has("attribute") and not clause.has("direction", "operation", "to", "factor")


def _operation(clause: Clause) -> Operation:
    name, direction = clause.head()
    made = _MAKERS[name](clause, direction)
    clause.leftover(name)
    return made


def _signed(clause: Clause, direction: int) -> tuple[int, float | None]:
    """The direction with what "increase", "less" or "double" say; the factor of "double"."""
    said = clause.take("direction")
    if said in (2, 3, -2):
        return direction or 1, {2: 2.0, 3: 3.0, -2: 0.5}[said]
    return (direction or 1) * said if said else direction, None


def _factor(clause: Clause, direction: int, default: float) -> tuple[float, bool]:
    """What to multiply with, and whether the amount was only said in words."""
    direction, said = _signed(clause, direction)
    percent, share, times = clause.amount("percent"), clause.take("share"), clause.take("factor")
    if isinstance(times, list):  # "2x", against "twice"
        times = times[0]
    if fraction := clause.take("fraction"):
        share = fraction[0] / fraction[1] if fraction[1] else 0.0
    degree, number = clause.take("degree"), clause.amount("number")
    given = [each for each in (said, percent, share, times, number) if each is not None]
    if len(given) > 1:
        raise NotUnderstood(f"{clause.words!r} gives two amounts: give one")
    value = number if times is None else times
    if value is not None:
        if value == 1 and direction == 1:
            value = 2.0  # Chinese: "提高一倍" adds once as much
        said = 1 / value if direction == -1 and value > 1 else value
    if percent is not None or share is not None:
        change = share if percent is None else percent / 100
        as_it_is = direction == 0 or clause.target("percent", "share", "fraction")
        said = change if as_it_is else 1 + direction * change
    if said is None and direction == 0:
        raise NotUnderstood(f"{clause.words!r} does not say whether more or less of it: say increase or reduce")
    factor = 1 + direction * default * (degree or 1) if said is None else said
    if not 0.02 <= factor <= 50:
        raise NotUnderstood(f"{clause.words!r} asks for {factor:.3g} times as much: ask for 0.02 to 50")
    if abs(factor - 1) < 0.005:
        raise NotUnderstood(f"{clause.words!r} asks for no change")
    return factor, said is None


def _light(clause: Clause, direction: int) -> Operation:
    factor, loose = _factor(clause, direction, 0.3)
    return asked.Light(factor=factor, words=clause.words, loose=loose)


def _dark(clause: Clause, direction: int) -> Operation:
    """ "Twice as dark", "less dark"."""
    factor, loose = _factor(clause, -(direction or 0), 0.3)
    said = clause.take("direction")
    if said is None:
        return asked.Light(factor=1 / factor, words=clause.words, loose=loose)
    factor, loose = _factor(clause, -1, 0.3)
    return asked.Light(factor=factor, words=clause.words, loose=loose)


def _contrast(clause: Clause, direction: int) -> Operation:
    factor, loose = _factor(clause, direction, 0.35)
    return asked.Contrast(factor=factor, words=clause.words, loose=loose)


def _saturation(clause: Clause, direction: int) -> Operation:
    if direction == -1 and not clause.has("percent", "share", "factor", "fraction", "degree", "direction", "number"):
        return asked.Saturation(factor=0.5, words=clause.words, loose=True)
    if (percent := clause.amount("percent")) is not None:
        less, _ = _signed(clause, direction)
        if percent == (0 if clause.target("percent") else 100) and (less == -1 or clause.target("percent")):
            return asked.Grayscale(words=clause.words)
    factor, loose = _factor(clause, direction, 0.5)
    return asked.Saturation(factor=factor, words=clause.words, loose=loose)


def _strength(clause: Clause, default: float) -> tuple[float, bool]:
    """A share of 0-1 from a percentage, "slightly", "half"; the default otherwise."""
    percent, share, degree = clause.amount("percent"), clause.take("share"), clause.take("degree")
    clause.take("direction")
    value = percent / 100 if percent is not None else share
    if value is None:
        return min(0.9, default * (degree or 1)), True
    if not 0 < value <= 1:
        raise NotUnderstood(f"{clause.words!r} asks for {value:.0%}: ask for 1 to 100 %")
    return value, False


def _warmth(clause: Clause, direction: int) -> Operation:
    direction, _ = _signed(clause, direction)
    if direction == 0:
        raise NotUnderstood(f"{clause.words!r} does not say whether warmer or cooler")
    amount, loose = _strength(clause, 0.2)
    return asked.Warmth(amount=direction * amount, words=clause.words, loose=loose)


def _tint(clause: Clause, direction: int) -> Operation:
    colour = clause.take("colour")
    if colour is None or max(colour) - min(colour) < 30:
        raise NotUnderstood(f"{clause.words!r} names no colour to tint with: name one, such as blue or orange")
    strength, loose = _strength(clause, 0.3)
    return asked.Tint(colour=colour, strength=strength, words=clause.words, loose=loose)


def _hue(clause: Clause, direction: int) -> Operation:
    degrees, turn = clause.amount("degrees"), clause.take("turn")
    direction, _ = _signed(clause, direction)
    if degrees is None:
        raise NotUnderstood(f"{clause.words!r} does not say by how many degrees to turn the hue")
    return asked.Hue(degrees=_around(degrees * (turn or direction or 1), clause), words=clause.words)


def _around(degrees: float, clause: Clause) -> float:
    """Within -180 to 180. Raises NotUnderstood where nothing would change."""
    turned = (degrees + 180) % 360 - 180
    if abs(turned) < 0.5:
        raise NotUnderstood(f"{clause.words!r} asks for no change")
    return 180.0 if turned == -180 else turned


def _blur(clause: Clause, direction: int) -> Operation:
    direction, _ = _signed(clause, direction)
    pixels, number, degree = clause.amount("pixels"), clause.amount("number"), clause.take("degree")
    if direction == -1:
        return asked.Sharpen(amount=0.8 * (degree or 1), words=clause.words, loose=True)
    given = number if pixels is None else pixels
    value = 2.5 * (degree or 1) if given is None else given
    if not 0.3 <= value <= 100:
        raise NotUnderstood(f"{clause.words!r} asks for a blur of {value:g} pixels: ask for 0.3 to 100")
    return asked.Blur(pixels=value, words=clause.words, loose=given is None)


def _sharpen(clause: Clause, direction: int) -> Operation:
    factor, loose = _factor(clause, direction or (0 if clause.has("direction") else 1), 0.8)
    if factor < 1:
        return asked.Blur(pixels=1.5, words=clause.words, loose=True)
    return asked.Sharpen(amount=factor - 1, words=clause.words, loose=loose)


def _posterize(clause: Clause, direction: int) -> Operation:
    steps, number = clause.amount("steps"), clause.amount("number")
    levels = steps if steps is not None else number
    if levels is not None and not (levels == int(levels) and 2 <= levels <= 32):
        raise NotUnderstood(f"{clause.words!r} asks for {levels:g} levels: ask for 2 to 32")
    return asked.Posterize(levels=int(levels or 4), words=clause.words, loose=levels is None)


def _vignette(clause: Clause, direction: int) -> Operation:
    clause.take("sides")
    clause.used.add("colour")  # "a black vignette"
    strength, loose = _strength(clause, 0.5)
    return asked.Vignette(strength=strength, words=clause.words, loose=loose)


def _rotate(clause: Clause, direction: int) -> Operation:
    degrees, number = clause.amount("degrees"), clause.amount("number")
    share, turn = clause.take("share"), clause.take("turn")
    if share is not None and degrees is None:
        degrees = 360 * share  # "a quarter turn"
    value = number if degrees is None else degrees
    loose = value is None
    if value is None:
        if turn is None:
            raise NotUnderstood(f"{clause.words!r} does not say by how many degrees")
        value = 90.0
    return asked.Rotate(degrees=_around(value * (turn or 1), clause), words=clause.words, loose=loose)


def _upside_down(clause: Clause, direction: int) -> Operation:
    if "flip" in clause.general:
        clause.take("axis")
        return asked.Flip(axis="vertical", words=clause.words)
    clause.take("degrees")
    return asked.Rotate(degrees=180.0, words=clause.words)


def _flip(clause: Clause, direction: int) -> Operation:
    axis, turn, column, row = map(clause.take, ("axis", "turn", "column", "row"))
    if axis is None and (turn or column or row):
        axis = "vertical" if row else "horizontal"
    if axis is None:
        raise NotUnderstood(f"{clause.words!r} does not say which way: say horizontally or vertically")
    return asked.Flip(axis=axis, words=clause.words)


def _mirror(clause: Clause, direction: int) -> Operation:
    return _flip(clause, direction) if clause.has("axis") else asked.Flip(axis="horizontal", words=clause.words)


def _crop(clause: Clause, direction: int, off: bool = False) -> Operation:
    size, ratio, shape = clause.take("extent"), clause.take("ratio"), clause.take("shape")
    if size:
        return asked.Crop(size=(int(size[0]), int(size[1])), words=clause.words)
    if ratio or shape:
        _central(clause)
        return asked.Crop(ratio=shape or ratio[0] / max(ratio[1], 1e-9), words=clause.words)
    sides, place = clause.take("sides"), clause.take("place")
    named = [each for each in (clause.take("column"), clause.take("row"), *(place or ())) if each and each != "middle"]
    percent, share, pixels = clause.amount("percent"), clause.take("share"), clause.amount("pixels")
    if fraction := clause.take("fraction"):
        share = fraction[0] / max(fraction[1], 1)
    amount = pixels if pixels is not None else percent / 100 if percent is not None else share
    unit: Literal["share", "pixels"] = "share" if pixels is None else "pixels"
    central = not named and not sides
    off = off or bool(sides) or (pixels is not None) or (bool(named) and percent is not None)
    if amount is None:
        if off or not (named or place):
            raise NotUnderstood(f"{clause.words!r} does not say how much, or to what: such as 10% from the left")
        amount = 0.5
    loose = percent is None and share is None and pixels is None
    if unit == "share" and not 0 < amount < 1:
        raise NotUnderstood(f"{clause.words!r} asks for {amount:.0%}: ask for 1 to 99 %")
    if central and unit == "share":
        each = amount / 2 if off else (1 - amount) / 2
        return asked.Crop(sides=(each, each, each, each), words=clause.words, loose=loose)
    if central:
        sides = ("left", "top", "right", "bottom")
    if named and not off:  # what is kept is at the named side: the opposite one goes
        opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
        sides, amount = tuple(opposite[each] for each in named), 1 - amount
    left, top, right, bottom = (amount * (each in (sides or named)) for each in ("left", "top", "right", "bottom"))
    if unit == "share" and max(left + right, top + bottom) >= 1:
        raise NotUnderstood(f"{clause.words!r} leaves nothing of the picture: ask for less")
    return asked.Crop(sides=(left, top, right, bottom), unit=unit, words=clause.words, loose=loose)


def _central(clause: Clause) -> None:
    """A shape is cut from the middle: "crop to a square in the centre" is understood, other places are not."""
    if clause.take("place") not in (None, ("middle", "middle")):
        raise NotUnderstood(f"{clause.words!r}: a shape is cut from the middle only")


def _trim(clause: Clause, direction: int) -> Operation:
    return _crop(clause, direction, off=True)


def _resize(clause: Clause, direction: int) -> Operation:
    extent, pixels = clause.take("extent"), clause.take("pixels")
    if given := extent or pixels:
        if not all(1 <= each <= 20_000 for each in given):
            raise NotUnderstood(f"{clause.words!r} asks for no size that a picture has: ask for 1 to 20000 pixels")
        return asked.Resize(width=int(given[0]), height=int(given[1]) if extent else None, words=clause.words)
    if direction == 0 and clause.has("percent", "share", "factor", "number", "fraction"):
        scale, loose = _factor(clause, 0, 0.5)
    elif direction == -1 and (share := clause.take("share")) is not None and clause.target("share"):
        scale, loose = share, False
    elif direction:
        scale, loose = _factor(clause, direction, 0.5)
    else:
        raise NotUnderstood(f"{clause.words!r} does not say to what size: such as 50% or 640x480")
    return asked.Resize(scale=scale, words=clause.words, loose=loose)


def _write(clause: Clause, direction: int) -> Operation:
    text, place, row, column, turn = map(clause.take, ("quote", "place", "row", "column", "turn"))
    colour, size, degree = clause.take("colour"), clause.take("size"), clause.take("degree")
    clause.take("direction")  # "add"
    if not text or not text.strip():
        raise NotUnderstood(f"{clause.words!r} does not say which text: put it in quotation marks")
    if len(text) > 100:
        raise NotUnderstood(f"a text of {len(text)} characters is too long to be written on a picture: 100 at most")
    if degree is not None:
        raise NotUnderstood(f"{clause.words!r}: a text is not written by degrees")
    at = dict(zip(("row", "column"), place, strict=True)) if place else {}
    if turn and not column:
        column = "right" if turn > 0 else "left"
    at |= {key: value for key, value in (("row", row), ("column", column)) if value}
    if column and not row and not place:
        at["row"] = "middle"
    return asked.Write(text=" ".join(text.split()), colour=colour, height=size or 0.12, words=clause.words, **at)


def _plain(made: Callable[..., Operation]) -> Callable[[Clause, int], Operation]:
    def make(clause: Clause, direction: int) -> Operation:
        clause.take("direction")
        return made(words=clause.words)

    return make


_MAKERS: dict[str, Callable[[Clause, int], Operation]] = {
    "light": _light, "dark": _dark, "contrast": _contrast, "saturation": _saturation, "warmth": _warmth,
    "blur": _blur, "sharpen": _sharpen, "grayscale": _plain(asked.Grayscale), "sepia": _plain(asked.Sepia),
    "invert": _plain(asked.Invert), "posterize": _posterize, "vignette": _vignette, "hue": _hue, "tint": _tint,
    "flip sideways": _plain(lambda words: asked.Flip(axis="horizontal", words=words)),
    "flip over": _plain(lambda words: asked.Flip(axis="vertical", words=words)),
    "rotate": _rotate, "upside down": _upside_down, "flip": _flip, "mirror": _mirror, "crop": _crop, "trim": _trim,
    "resize": _resize, "enlarge": lambda clause, _: _resize(clause, 1), "shrink": lambda clause, _: _resize(clause, -1),
    "write": _write,
}  # fmt: skip


def _list(words: Sequence[str]) -> str:
    return ", ".join(map(repr, words[:8])) + (" …" if len(words) > 8 else "")


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
