"""How the words of one part of an instruction make an operation, with its amount or the default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from jobs.edit import asked
from jobs.edit.asked import Operation
from jobs.edit.clause import Clause, NotUnderstood


def operation(clause: Clause) -> Operation:
    """What the clause asks for. Raises NotUnderstood for words that this operation has no use for."""
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
    share, turn, column = clause.take("share"), clause.take("turn"), clause.take("column")
    if column and not turn:  # "rotate left"
        turn = 1 if column == "right" else -1
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
    share = clause.take("portion") if share is None else share
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
