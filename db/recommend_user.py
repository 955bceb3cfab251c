"""Users of the recommender as a page shows them: names that begin so, and why a stored list does not serve any more."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from db import ledger
from db.read import Reader
from db.recommend import IN_USE, MODEL

# In the order of the primary key's index, so that it stops at the last one that is asked for.
_NAMES = text("""
    SELECT username, item_count FROM user_profile WHERE starts_with(username, :prefix)
    ORDER BY username LIMIT :limit""")

_STORED = text(f"""
    SELECT c.model_version, c.cached_at, c.top_k, c.profile_hash = p.profile_hash AS same_history,
           {IN_USE} AS version_in_use
    FROM recommendation_cache c JOIN user_profile p USING (username)
    WHERE username = :username ORDER BY c.model_version = {IN_USE} DESC, c.cached_at DESC LIMIT 1""")


@dataclass(frozen=True, slots=True)
class Stored:
    """A user's list as it is in the database, fresh or not: that of the version in use, else the newest."""

    model_version: int
    cached_at: datetime
    top_k: int
    same_history: bool  # as when it was computed
    version_in_use: int | None


def names(on: Reader, prefix: str, limit: int) -> list[tuple[str, int]]:
    """Users whose name begins so, in the order of their names, and how many items their histories have."""
    return [(name, count) for name, count in on.execute(_NAMES, {"prefix": prefix, "limit": limit})]


def stored(on: Reader, username: str) -> Stored | None:
    """None: no list of this user is kept."""
    row = on.execute(_STORED, {"username": username, "model": MODEL}).mappings().one_or_none()
    return None if row is None else Stored(**row)


def live(on: Reader, keys: Sequence[str]) -> UUID | None:
    """The live job of the first of these keys that has one."""
    found = ledger.live(on, keys)
    return next((found[key] for key in keys if key in found), None)
