"""What is popular lately, the last rung of the ladder, for those of whom nothing is known; needs no torch, no numpy.

Read from an index as far as the list goes. What a policy filters holds here too; its weights need a model.
"""

from collections.abc import Collection
from contextlib import closing
from typing import Any

from sqlalchemy.orm import Session

from db import catalogue
from db.catalogue import Item
from jobs.recommend.features import facts
from jobs.recommend.params import Policy
from jobs.recommend.policy.filters import Filter, asked, check_labels, labels

ANY = Policy.model_validate({})


def popular(session: Session, top_k: int, policy: Policy | None = None, seen: Collection[str] = ()) -> list[Item]:
    """The most popular items that the policy allows, without those seen. Raises UnknownLabel."""
    policy, skip = policy or ANY, set(seen)
    allowed, missing, genres, tags, found = Filter(policy), set(asked(policy)), set[str](), set[str](), list[Item]()
    with closing(catalogue.popular(session)) as items:
        for item in items:
            known = facts(item.features)
            genres.update(known.genres)
            tags.update(known.tags)
            if missing:
                missing -= labels(known.genres, known.tags)
            if len(found) < top_k and item.item_id not in skip and allowed(known):
                found.append(item)
            if len(found) == top_k and not missing:
                return found
    check_labels(policy, genres, tags)
    return found


def answer(
    session: Session, username: str, policy: Policy, top_k: int, reason: str, seen: Collection[str] = ()
) -> dict[str, Any]:
    """The popular list in the form of `recommend.rank`'s result. Raises UnknownLabel."""
    items = popular(session, top_k, policy, seen)
    if policy.diversity or policy.novelty or policy.calibration:
        reason = f"{reason} (a policy's weights need a model that knows the user: they are left out)"
    listed = [
        {
            "item": item.item_id,
            "title": item.title,
            "score": round(item.popularity, 4),
            "why": {"shared": [], "like": []},
        }
        for item in items
    ]
    return {"username": username, "basis": "popular", "reason": reason, "model_version": None, "items": listed}
