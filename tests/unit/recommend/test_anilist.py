"""AniList's client against a stand-in with its faults, and its lists as histories and items."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobs.recommend.sources.anilist.client import Client, NoSuchUser, PrivateUser, Refused, Unreachable
from jobs.recommend.sources.anilist.history import item, taken, when
from jobs.recommend.sources.anilist.queries import LIST, MEDIA
from tests.anilist import AniList, entry, medium, serving


class Pace:
    """Writes down what it is told, and lets everybody pass."""

    def __init__(self) -> None:
        self.per_minute, self.turns, self.held = 30.0, 0, list[float]()

    def turn(self) -> None:
        self.turns += 1

    def hold(self, seconds: float) -> None:
        self.held.append(seconds)


@pytest.fixture
def server() -> Iterator[AniList]:
    with serving(AniList(lists={"spike": [entry(1)]}, private={"shy"}, media={1: medium(1)})) as state:
        yield state


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def client(server: AniList, slept: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Client]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made: list[Client] = []

    def make(**options: Any) -> Client:
        made.append(Client(**{"url": server.url, "pace": Pace(), "sleep": slept.append} | options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(client: Client, name: str = "Spike") -> dict[str, Any]:
    return client.ask(LIST, {"userName": name, "chunk": 1, "perChunk": 500})


def test_the_queries_are_of_its_schema(client: Callable[..., Client]) -> None:
    assert ask(client())["MediaListCollection"]["user"] == {"id": 7, "name": "Spike"}
    assert client().ask(MEDIA, {"ids": [1], "page": 1, "perPage": 50})["Page"]["media"] == [medium(1)]


def test_faults_are_asked_again_with_growing_pauses(
    server: AniList, client: Callable[..., Client], slept: list[float]
) -> None:
    server.faults = ["500", "closed", "truncated", "200 error", "html"]

    assert ask(client())["MediaListCollection"]["lists"]

    assert len(server.asked) == 6
    assert all(0.5 * 2**n <= pause <= 1.5 * 2**n for n, pause in enumerate(slept))


def test_too_many_requests_hold_everybody_for_as_long_as_it_says(
    server: AniList, client: Callable[..., Client]
) -> None:
    server.faults = ["429"]
    pace = Pace()

    ask(client(pace=pace))

    assert pace.held == [30]
    assert (pace.turns, pace.per_minute) == (2, 540_000)


@pytest.mark.parametrize(
    ("reset", "held"), [({}, 60), ({"X-RateLimit-Reset": "99999999999"}, 60), ({"X-RateLimit-Reset": "1"}, 0)]
)
def test_when_nothing_remains_nobody_asks_until_it_is_reset(
    server: AniList, client: Callable[..., Client], reset: dict[str, str], held: float
) -> None:
    server.headers = {"X-RateLimit-Remaining": "0"} | reset
    pace = Pace()

    ask(client(pace=pace))

    assert pace.held == [held]


def test_silence_is_given_up_after_the_timeout(server: AniList, client: Callable[..., Client]) -> None:
    server.faults = ["silent"]

    assert ask(client(timeout_s=0.04, retries=1))

    server.faults = ["silent", "silent"]
    with pytest.raises(Unreachable, match=r"no answer within 0.04 s \(asked 2 times\): submit again later"):
        ask(client(timeout_s=0.04, retries=1))


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("500", Unreachable, r"HTTP 500: Internal Server Error \(asked 3 times\)"),
        ("closed", Unreachable, "RemoteProtocolError"),
        ("truncated", Unreachable, "no JSON"),
        ("429", Unreachable, "HTTP 429: Too Many Requests"),
        ("403", Unreachable, "HTTP 403: The AniList API has been temporarily disabled"),
    ],
)
def test_what_stays_wrong_is_said_in_one_line(
    server: AniList, client: Callable[..., Client], fault: str, error: type[Exception], message: str
) -> None:
    server.faults = [fault] * 3

    with pytest.raises(error, match=message) as caught:
        ask(client(retries=2))

    assert "\n" not in str(caught.value)


def test_users_who_cannot_be_shown_and_queries_that_are_wrong_are_not_asked_again(
    server: AniList, client: Callable[..., Client]
) -> None:
    with pytest.raises(PrivateUser, match="Private User"):
        ask(client(), "shy")
    with pytest.raises(NoSuchUser, match="User not found"):
        ask(client(), "nobody")
    with pytest.raises(Refused, match='HTTP 400: Cannot query field "mood"'):
        client().ask("query { mood }", {})

    assert len(server.asked) == 3


def test_a_list_is_taken_in_the_order_of_completion_and_each_medium_once() -> None:
    raw = [
        entry(3, completed=(2020, None, None)),
        entry(2, completed=(2019, 6, 31)),
        entry(5, completed=(None, 4, 1), updated=1_590_000_000),  # May 2020
        entry(4, "CURRENT", updated=1_590_000_000),
        entry(1, completed=(2021, 2, None)),
        entry(1, completed=(2021, 2, None)),  # in a custom list, too
        entry(6, "PLANNING"),
        entry(7, score=30),
        entry(8, completed=(2019, 1, 1), score=90),
        None,
    ]

    entries, skipped = taken(raw, {"completed", "current"}, min_score=60)  # type: ignore[arg-type]

    assert [each.media_id for each in entries] == [8, 2, 3, 4, 5, 1]
    assert dict(skipped) == {"planning": 1, "low score": 1}


@pytest.mark.parametrize(
    ("date", "seconds"), [((1971, 1, 2), 366 * 86400), ((1971, None, 9), 365 * 86400), ((0, 1, 1), 5), ((None,) * 3, 5)]
)
def test_what_is_missing_of_a_date_is_its_beginning(date: tuple[Any, ...], seconds: int) -> None:
    assert when(entry(1, completed=date, updated=5)) == seconds


def test_a_medium_becomes_an_item_with_its_features() -> None:
    english = medium(1, title={"romaji": "Kaubōi", "english": "Cowboy Bebop", "native": None}, isAdult=True)

    made = item(english, "a1", tag_rank=60)

    assert (made["item_id"], made["title"]) == ("a1", "Cowboy Bebop")
    assert json.loads(json.dumps(made["features"])) == {
        "genres": ["Action", "Drama"],
        "tags": ["Pirates"],
        "studios": ["Sunrise"],
        "voice_actors": ["Megumi Hayashibara"],
        "year": 1998,
        "format": "TV",
        "adult": True,
        "titles": ["Cowboy Bebop", "Kaubōi"],
        "anilist_id": 1,
        "mal_id": 1001,
        "average_score": 86,
    }
    assert item({"id": 2}, "2", 60) == {"item_id": "2", "title": "2", "features": {"adult": False, "anilist_id": 2}}
