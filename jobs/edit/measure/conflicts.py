"""Says which operations of one instruction cannot be told apart in one picture, instead of measuring them wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from jobs.edit import asked
from jobs.edit.asked import Operation
from jobs.edit.measure.finding import Unmeasurable

_ONCE = (asked.Light, asked.Contrast, asked.Blur, asked.Sharpen, asked.Vignette, *asked.COLOUR)
_TOLD_APART = {  # of all pairs that change colours
    frozenset(pair)
    for pair in (
        (asked.Saturation, asked.Hue),
        (asked.Saturation, asked.Invert),
        (asked.Grayscale, asked.Invert),
        (asked.Posterize, asked.Grayscale),
        (asked.Posterize, asked.Invert),
        (asked.Posterize, asked.Tint),
        (asked.Posterize, asked.Warmth),
    )
}
_LATER_HIDES = ((asked.Write, asked.Blur), (asked.Write, asked.Sharpen), (asked.Vignette, asked.Invert))


def check(operations: Sequence[Operation]) -> None:
    """Raises Unmeasurable, which names the two, for operations of which one hides or undoes the other."""
    for first, second in combinations(operations, 2):
        kinds: frozenset[type[Operation]] = frozenset((type(first), type(second)))
        twice = len(kinds) == 1 and isinstance(first, _ONCE)
        colours = all(issubclass(kind, asked.COLOUR) for kind in kinds) and kinds not in _TOLD_APART
        detail = asked.Blur in kinds and asked.Sharpen in kinds
        if twice or (colours and len(kinds) == 2) or detail or (type(first), type(second)) in _LATER_HIDES:
            raise Unmeasurable(f"{first.words!r} and {second.words!r} cannot be told apart in one picture: ask for one")
