"""Taking users' histories at AniList, and what they watched, into the database."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from broker.context import Context
from broker.errors import JobError
from broker.pace import Pace
from db import recommend as rows
from db import registry
from db.interactions import add_popularity
from db.job import Job
from db.recommend import CatalogueItem, UserProfile
from jobs.recommend.params import ImportAnilist
from jobs.recommend.popularity import decayed
from jobs.recommend.profile import profile_hash
from jobs.recommend.sources.anilist.client import SHARE, Client, NoSuchUser
from jobs.recommend.sources.anilist.history import Entry, item, taken
from jobs.recommend.sources.anilist.pages import SOURCE, Pages
from jobs.recommend.sources.mapping import read_mapping
from jobs.recommend.sources.settings import settings
from jobs.training.tables import DataError

_AT_A_TIME = 50  # media between two notes of progress


@dataclass
class _User:
    username: str  # here
    external_id: str  # at AniList
    items: dict[str, Entry]  # by our item id, oldest first
    skipped: dict[str, int] = field(default_factory=dict)


def import_anilist(ctx: Context, params: ImportAnilist) -> dict[str, Any]:
    started = time.perf_counter()
    ids = _Ids(params)
    known, by = _known(ctx)
    with _pages(ctx, params) as (client, pages):
        users, failed = _users(ctx, params, pages, ids)
        changed_items = _catalogue(ctx, params, pages, users) if params.metadata else 0
        answers = {"requests": client.requests, "cached": pages.cached}
    changed_users = _profiles(ctx, users)
    everything = {each for user in users for each in user.items}
    share = len(everything & known)
    return {
        "users": [
            {
                "username": user.username,
                "items": len(user.items),
                "known": len(user.items.keys() & known),
                "skipped": user.skipped,
            }
            for user in users
        ],
        "failed": failed,
        "items": len(everything),
        "known": f"{share} of {len(everything)} ids known to {by}",
        "known_share": round(share / len(everything), 4) if everything else None,
        "changed_users": changed_users,
        "changed_items": changed_items,
        **answers,
        "seconds": round(time.perf_counter() - started, 3),
    }


class _Ids:
    """Our item id of an entry or a medium, by the parameters: AniList's or MyAnimeList's, then through the mapping."""

    def __init__(self, params: ImportAnilist) -> None:
        self._mal = params.ids == "mal"
        try:
            self._mapping = read_mapping(Path(params.mapping)) if params.mapping else None
        except DataError as error:
            raise JobError(str(error)) from None

    def of(self, media_id: int, mal_id: int | None) -> tuple[str, str]:
        """The item id and "", or "" and why there is none."""
        if self._mal and mal_id is None:
            return "", "no MAL id"
        source = str(mal_id if self._mal else media_id)
        if self._mapping is None:
            return source, ""
        return (self._mapping[source], "") if source in self._mapping else ("", "not in the mapping")


@contextmanager
def _pages(ctx: Context, params: ImportAnilist) -> Iterator[tuple[Client, Pages]]:
    """`refresh` asks anew for what was fetched before the job was submitted: an attempt goes on where one ended."""
    since = None
    if params.refresh:
        with ctx.session() as session:
            since = session.scalar(select(Job.created_at).where(Job.id == ctx.job_id))
    client = Client(settings().anilist_url, Pace(SOURCE, settings().anilist_per_minute * SHARE))
    try:
        yield client, Pages(client, settings().anilist_days * 86400, since)
    finally:
        client.close()


def _users(ctx: Context, params: ImportAnilist, pages: Pages, ids: _Ids) -> tuple[list[_User], list[dict[str, str]]]:
    users: dict[str, _User] = {}
    failed: list[dict[str, str]] = []
    names = list({name.lower(): name for name in params.usernames}.values())  # AniList's names have no case
    for done, name in enumerate(names):
        ctx.progress(done, len(names), stage="lists", message=name)
        try:
            external_id, username, raw = pages.anime_list(name)
        except NoSuchUser as error:
            failed.append({"username": name, "reason": str(error)})
            continue
        entries, skipped = taken(raw, params.statuses, params.min_score)
        user = _User((params.prefix or "") + username, external_id, {})
        for entry in entries:
            item_id, why = ids.of(entry.media_id, entry.mal_id)
            if item_id in user.items:
                why = "same item as another"
            if why:
                skipped[why] += 1
            else:
                user.items[item_id] = entry
        user.skipped = dict(skipped)
        if user.items:
            users[user.username] = user
        else:
            left_out = ", ".join(f"{number} {why}" for why, number in skipped.items()) or "the list is empty"
            failed.append({"username": name, "reason": f"no items to take ({left_out}): widen `statuses`"})
    if not users:
        raise JobError(f"none of {len(names)} users could be imported, the first: {failed[0]['reason']}")
    return list(users.values()), failed


def _catalogue(ctx: Context, params: ImportAnilist, pages: Pages, users: list[_User]) -> int:
    """What AniList knows of all that was watched; returns how many items changed."""
    wanted = {entry.media_id: item_id for user in users for item_id, entry in user.items.items()}
    numbers, changed = sorted(wanted), 0
    for begin in range(0, len(numbers), _AT_A_TIME):
        ctx.progress(begin, len(numbers), stage="media")
        found = pages.media(numbers[begin : begin + _AT_A_TIME])
        media = [item(each, wanted[number], params.tag_rank) for number, each in sorted(found.items()) if each]
        once = {each["item_id"]: each for each in media}  # a mapping may send two media to one item
        with ctx.session() as session:
            changed += rows.put_items(session, list(once.values()))
    ctx.progress(len(numbers), len(numbers), stage="media")
    return changed


def _profiles(ctx: Context, users: list[_User]) -> int:
    """Histories and, of what is new in them, popularity; in one transaction, so that nothing is counted twice."""
    profiles = [
        {
            "username": user.username,
            "external_id": user.external_id,
            "item_ids": list(user.items),
            "profile_hash": profile_hash(list(user.items)),
        }
        for user in users
    ]
    with ctx.session() as session:
        names = [user.username for user in users]
        stored = select(UserProfile.username, UserProfile.item_ids).where(UserProfile.username.in_(names))
        before = {username: set(item_ids) for username, item_ids in session.execute(stored)}
        added: dict[str, float] = defaultdict(float)
        now = time.time()
        for user in users:
            for item_id, entry in user.items.items():
                if item_id not in before.get(user.username, ()):
                    added[item_id] += round(float(decayed(entry.at, now)), 6)
        changed = rows.put_profiles(session, profiles)
        add_popularity(session, added)
    return changed


def _known(ctx: Context) -> tuple[set[str], str]:
    """The ids that the model in use knows, or without one the catalogue before the import; and which of them it is."""
    with ctx.session() as session:
        model = registry.current(session, rows.MODEL)
        if model is None:
            return set(session.scalars(select(CatalogueItem.item_id))), "the catalogue"
        digest, version = model.artifact_digest, model.version
    from jobs.recommend.artifact import ITEMS  # imports torch

    items = json.loads((ctx.store.fetch(digest) / ITEMS).read_text())
    return set(items), f"version {version} of the model"
