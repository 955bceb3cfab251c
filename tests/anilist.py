"""A stand-in of AniList on a loopback port: its schema, its limits, its errors, and faults when they are asked for."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What may stand in a query: names of AniList's schema (docs.anilist.co/reference), arguments and values included.
SCHEMA = """
    query Int String userName chunk perChunk MediaListCollection type ANIME forceSingleCompletedList true hasNextChunk
    user id name lists entries mediaId status score format POINT_100 updatedAt completedAt year month day media idMal
    ids page perPage Page pageInfo hasNextPage id_in sort ID title romaji english native genres tags rank studios isMain
    nodes characters role MAIN RELEVANCE edges voiceActors language JAPANESE full seasonYear startDate isAdult
    averageScore popularity 10"""
WORDS = set(re.findall(r"\w+", SCHEMA))


def entry(media_id: int, status: str = "COMPLETED", score: float = 0, **more: Any) -> dict[str, Any]:
    """An entry of a list, as AniList sends it."""
    date = more.pop("completed", (None, None, None))
    return {
        "mediaId": media_id,
        "status": status,
        "score": score,
        "updatedAt": more.pop("updated", 1_700_000_000),
        "completedAt": dict(zip(("year", "month", "day"), date, strict=True)),
        "media": {"idMal": more.pop("mal", media_id + 1000)},
    }


def medium(media_id: int, **more: Any) -> dict[str, Any]:
    """A medium, as AniList sends it."""
    return {
        "id": media_id,
        "idMal": media_id + 1000,
        "title": {"romaji": f"Anime {media_id}", "english": None, "native": None},
        "format": "TV",
        "genres": ["Action", "Drama"],
        "tags": [{"name": "Pirates", "rank": 90}, {"name": "Gore", "rank": 20}],
        "studios": {"nodes": [{"name": "Sunrise"}]},
        "characters": {"edges": [{"voiceActors": [{"name": {"full": "Megumi Hayashibara"}}]}, {"voiceActors": []}]},
        "seasonYear": None,
        "startDate": {"year": 1998},
        "isAdult": False,
        "averageScore": 86,
        "popularity": 300_000,
    } | more


def errors(status: int, message: str) -> dict[str, Any]:
    return {"errors": [{"message": message, "status": status, "locations": [{"line": 1, "column": 1}]}], "data": None}


@dataclass
class AniList:
    """`lists` by lower-case name; a name that is not there is unknown. `faults`: what the next requests meet, in order:
    "429", "500", "403", "200 error", "truncated", "closed", "silent", "html", or None for an honest answer."""

    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    media: dict[int, dict[str, Any]] = field(default_factory=dict)
    faults: list[str | None] = field(default_factory=list)
    largest_chunk: int = 500
    largest_page: int = 50
    headers: dict[str, str] = field(default_factory=lambda: {"X-RateLimit-Limit": "600000"})
    asked: list[dict[str, Any]] = field(default_factory=list)  # the variables of each request
    url: str = ""
    released: threading.Event = field(default_factory=threading.Event)  # ends silence

    def answer(self, query: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if unknown := [word for word in re.findall(r"\w+", query) if word not in WORDS]:
            return 400, errors(400, f'Cannot query field "{unknown[0]}"')
        if "ids" in given:
            return 200, {"data": {"Page": self._page(given)}}
        name = given["userName"].lower()
        if name in self.private:
            return 404, errors(404, "Private User")
        if name not in self.lists:
            return 404, errors(404, "User not found")
        return 200, {"data": {"MediaListCollection": self._chunk(name, given)}}

    def _chunk(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        size = min(given["perChunk"], self.largest_chunk)
        entries = self.lists[name]
        begin = (given["chunk"] - 1) * size
        groups = [{"entries": [each]} for each in entries[begin : begin + size]]  # as if each had a list of its own
        user = {"id": 7, "name": given["userName"].capitalize()}
        return {"hasNextChunk": begin + size < len(entries), "user": user, "lists": groups}

    def _page(self, given: dict[str, Any]) -> dict[str, Any]:
        size = min(given["perPage"], self.largest_page)
        found = [self.media[each] for each in sorted(given["ids"]) if each in self.media]
        begin = (given["page"] - 1) * size
        return {"pageInfo": {"hasNextPage": begin + size < len(found)}, "media": found[begin : begin + size]}


@contextmanager
def serving(state: AniList) -> Iterator[AniList]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(body["variables"])
            match state.faults.pop(0) if state.faults else None:
                case "429":
                    self._send(
                        429, errors(429, "Too Many Requests."), **{"Retry-After": "30", "X-RateLimit-Remaining": "0"}
                    )
                case "500":
                    self._send(500, errors(500, "Internal Server Error"))
                case "403":
                    self._send(403, errors(403, "The AniList API has been temporarily disabled."))
                case "200 error":
                    self._send(200, errors(500, "Internal Server Error"))
                case "truncated":
                    self._write(200, json.dumps(state.answer(**_given(body))[1]).encode()[:-9])
                case "html":
                    self._write(200, b"<html>Just a moment</html>")
                case "closed":
                    self.close_connection = True
                case "silent":
                    state.released.wait(10)
                case _:
                    self._send(*state.answer(**_given(body)))

        def _send(self, status: int, answer: dict[str, Any], **headers: str) -> None:
            self._write(status, json.dumps(answer).encode(), **headers)

        def _write(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {**state.headers, **headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield state
    finally:
        state.released.set()
        http.shutdown()
        http.server_close()


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {"query": body["query"], "given": body["variables"]}
