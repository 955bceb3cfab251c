"""One part of an instruction: its tokens, and the account of which of them were used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs.edit.lexer import Token

TABLE = "docs/recipes/edit-instructions.md has the words that are"
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
            raise NotUnderstood(f"{self.words!r} names nothing to change: {TABLE}")
        name, value = names.popitem()
        direction = {"more": 1, "less": -1}.get(value.partition("|")[2], 0)
        return name, direction

    def leftover(self, name: str) -> None:
        """Raises NotUnderstood for what this operation had no use for: "brighten the left side" is not done in full."""
        places = {"row", "column", "place", "sides"}
        if self.has(*(places & self.used)):
            self.used.add("spot")
        rest = [token.text for token in self.tokens if token.kind not in self.used]
        if rest:
            raise NotUnderstood(f"{named(rest)} in {self.words!r} cannot be done by {name!r}: {TABLE}")


def named(words: Sequence[str]) -> str:
    return ", ".join(map(repr, words[:8])) + (" …" if len(words) > 8 else "")
