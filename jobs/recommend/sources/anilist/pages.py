"""What AniList says, from the cache that all workers share, else from AniList itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from db import source_page
from db.engine import autocommit
from jobs.recommend.sources.anilist.client import Client, NoSuchUser, PrivateUser, Refused
from jobs.recommend.sources.anilist.queries import LIST, MEDIA, PER_CHUNK, PER_PAGE

SOURCE = "anilist"
REFUSED_S = 3600.0  # for which it is believed that a user is unknown or private
_CHUNKS = 40  # AniList ends lists at 11,000 entries, which is 22
_PAGES = 100  # of one question: more are a server that does not count


class Pages:
    """`cached` counts the answers that needed no request.

    lifetime_s: for which an answer is good. since: ask again for what was fetched before.
    """

    def __init__(self, client: Client, lifetime_s: float, since: datetime | None = None) -> None:
        self._client, self._lifetime_s, self._since = client, lifetime_s, since
        self.cached = 0

    def anime_list(self, username: str) -> tuple[str, str, list[dict[str, Any]]]:
        """The user's id and name as AniList writes them, and the entries, some twice. Raises NoSuchUser."""
        entries: list[dict[str, Any]] = []
        for chunk in range(1, _CHUNKS + 1):
            page = self._chunk(username, chunk)
            user = page.get("user") or {}
            for group in page.get("lists") or []:
                entries += group.get("entries") or []
            if not page.get("hasNextChunk"):
                return str(user.get("id", "")), str(user.get("name") or username), entries
        raise Refused(f"AniList's list of {username!r} does not end after {_CHUNKS} chunks")

    def media(self, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """What is known of these media; of one that AniList has no more, an empty dict.

        Each is kept by itself, so that the next import asks only for what nobody has asked for.
        """
        keys = {source_page.key(self._client.url, MEDIA, number): number for number in ids}
        found = {keys[key]: body for key, body in self._read(list(keys)).items()}
        missing = sorted(set(ids) - found.keys())
        for begin in range(0, len(missing), PER_PAGE):
            wanted = missing[begin : begin + PER_PAGE]
            got = {each["id"]: each for each in self._asked_for(wanted)}
            found |= {number: got.get(number, {}) for number in wanted}
            self._keep({key: found[number] for key, number in keys.items() if number in wanted}, self._lifetime_s)
        return found

    def _asked_for(self, ids: list[int]) -> list[dict[str, Any]]:
        media: list[dict[str, Any]] = []
        for page in range(1, _PAGES + 1):
            answer = self._ask(MEDIA, {"ids": ids, "page": page, "perPage": PER_PAGE}).get("Page") or {}
            media += filter(None, answer.get("media") or [])
            if not (answer.get("pageInfo") or {}).get("hasNextPage"):
                return media
        raise Refused(f"AniList's answer to {len(ids)} ids does not end after {_PAGES} pages")

    def _chunk(self, username: str, chunk: int) -> dict[str, Any]:
        variables = {"userName": username, "chunk": chunk, "perChunk": PER_CHUNK}
        key = source_page.key(self._client.url, LIST, variables | {"userName": username.lower()})
        page = self._read([key]).get(key)
        if page is None:
            lifetime_s = self._lifetime_s
            try:
                page = self._ask(LIST, variables).get("MediaListCollection") or {}
            except NoSuchUser as error:
                page, lifetime_s = {"private" if isinstance(error, PrivateUser) else "unknown": True}, REFUSED_S
            self._keep({key: page}, lifetime_s)
        if page.get("private"):
            remedy = "ask for it to be made public (AniList, Settings, Lists), or import an export of it as CSV"
            raise PrivateUser(f"the list of {username!r} is private: {remedy}")
        if page.get("unknown"):
            remedy = f"look whether anilist.co/user/{username} is there, and public"
            raise NoSuchUser(f"AniList shows no user {username!r}: {remedy}")
        return page

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = source_page.storable(self._client.ask(query, variables))
        return found

    def _read(self, keys: list[str]) -> dict[str, Any]:
        with autocommit() as connection:
            found = source_page.read(connection, keys, self._since)
        self.cached += len(found)
        return found

    def _keep(self, bodies: dict[str, Any], lifetime_s: float) -> None:
        with autocommit() as connection:
            source_page.put(connection, SOURCE, bodies, lifetime_s)
