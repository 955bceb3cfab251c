"""Naming a row by the first characters of its id."""

from uuid import UUID

PREFIX = 8  # characters that are enough


def bounds(prefix: str) -> tuple[UUID, UUID] | None:
    """The first and the last id that begin so; None for what begins no id or is too short."""
    digits = prefix.replace("-", "").lower()
    if not PREFIX <= len(digits) <= 32 or not set(digits) <= set("0123456789abcdef"):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
