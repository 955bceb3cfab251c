"""Puts a version of a model into use by hand, the same for every door: by then the lists that it left behind count."""

from dataclasses import dataclass

from db import recommend, registry
from db.engine import session


@dataclass(frozen=True, slots=True)
class Switched:
    """Versions: which was in use, and which is so in its place. None: there is none."""

    was: int | None
    now: int | None


def promote(name: str, version: int) -> bool:
    """Put a version into use; False when there is no such version, and then nothing changes."""
    if not 0 < version < 2**31:
        return False
    _count_lists(name, version)
    with session() as opened:
        return registry.promote(opened, name, version)


def rollback(name: str) -> Switched:
    """Put the version into use that was so before; nothing changes when there is none."""
    with session() as opened:
        before = registry.previous(opened, name)
    if before is not None:
        _count_lists(name, before.version)
    with session() as opened:
        was, now = registry.current(opened, name), registry.rollback(opened, name)
        return Switched(was.version if was else None, now.version if now else None)


def _count_lists(name: str, version: int) -> None:
    """A recommender's lists are those that it would compute, unless the history changed: it serves them at once."""
    if name == recommend.MODEL:
        recommend.renew(session, version)
