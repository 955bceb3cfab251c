"""The endpoint scorer against a stand-in of an OpenAI-compatible server, with all that such servers do."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from jobs.edit import images
from jobs.edit.adapters import resolve
from jobs.edit.adapters.base import AdapterError, ScoreRequest
from jobs.edit.adapters.chat import Unreachable
from jobs.edit.adapters.endpoint import Endpoint

KEY = "sk-very-secret-1234"
Answer = tuple[int, dict[str, str], bytes]


def said(text: str, **choice: Any) -> Answer:
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop", **choice}]}
    return 200, {}, json.dumps(body).encode()


def failed(status: int, message: str = "busy", **headers: str) -> Answer:
    return status, headers, json.dumps({"error": {"message": message}}).encode()


@dataclass
class Server:
    """Answers from a list, the last one for ever; `hold` makes it silent until it is set."""

    answers: list[Answer | Callable[[dict[str, Any]], Answer]] = field(default_factory=lambda: [said("7")])
    models: Answer = (200, {}, b'{"data": []}')
    asked: list[dict[str, Any]] = field(default_factory=list)
    hold: threading.Event | None = None
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: dict[str, Any]) -> Answer:
        with self.lock:
            self.asked.append(body)
            given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return given(body) if callable(given) else given


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self._send(state.models)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers.get("Authorization") != f"Bearer {KEY}":
                return self._send(failed(401, f"wrong key {self.headers.get('Authorization')}"))
            if state.hold is not None:
                state.hold.wait(10)
                return None
            return self._send(state.answer(body))

        def _send(self, answer: Answer) -> None:
            status, headers, body = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    state.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield state
    if state.hold is not None:
        state.hold.set()
    http.shutdown()
    http.server_close()


@pytest.fixture
def scorer(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Endpoint]]:
    monkeypatch.setenv("JUDGE_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made: list[Endpoint] = []

    def make(load: bool = True, **parameters: Any) -> Endpoint:
        given = {"url": server.url, "model": "judge", "key_variable": "JUDGE_API_KEY", "pause_s": 0.001, "timeout_s": 5}
        made.append(Endpoint(**given | parameters))
        if load:
            made[-1].load()
        return made[-1]

    yield make
    for each in made:
        each.unload()


def request(seed: int = 1, side: int = 8) -> ScoreRequest:
    image = Image.new("RGB", (side, side), (seed, 0, 0))
    return ScoreRequest(image, image.rotate(90), "rotate it", "a square", "You judge.", "Was it rotated?", seed)


def test_both_images_and_the_texts_are_sent_and_the_score_is_read(
    server: Server, scorer: Callable[..., Endpoint]
) -> None:
    server.answers = [said('{"score": 7.5, "reasoning": "well", "adherence": 8}')]

    [scored] = scorer(json_schema=True, extra={"top_k": 1, "max_tokens": None}).score_batch([request(seed=9)])

    assert (scored.score, scored.parts, scored.words) == (7.5, {"adherence": 8.0}, "well")
    [body] = server.asked
    system, user = body["messages"]
    assert system == {"role": "system", "content": "You judge."}
    original, edited, text = user["content"]
    assert images.from_base64(original["image_url"]["url"])[0].getpixel((0, 0)) == (9, 0, 0)
    assert edited["image_url"]["url"].startswith("data:image/png;base64,")
    assert text == {"type": "text", "text": "Was it rotated?"}
    assert (body["model"], body["seed"], body["temperature"], body["top_k"]) == ("judge", 9, 0, 1)
    assert body["response_format"]["json_schema"]["schema"]["properties"]["score"]["maximum"] == 10
    assert "max_tokens" not in body


def test_a_busy_server_is_asked_again_when_it_says(server: Server, scorer: Callable[..., Endpoint]) -> None:
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.answers = [failed(429, Retry_After="0.01"), failed(500), failed(503, Retry_After=past), said("7")]

    [scored] = scorer().score_batch([request()])

    assert scored.score == 7
    assert len(server.asked) == 4


def test_a_server_that_stays_broken_is_an_error_of_the_pair(server: Server, scorer: Callable[..., Endpoint]) -> None:
    server.answers = [failed(500, f"no memory for {KEY}")]

    [scored] = scorer(retries=2).score_batch([request()])

    assert len(server.asked) == 3
    assert scored.score is None
    assert not scored.unparsable
    assert scored.error is not None
    assert "HTTP 500: no memory for ***" in scored.error


@pytest.mark.parametrize("garbage", [b"<html>login</html>", b"{}", b'{"choices": []}', b"[" * 9999, b'"\xff'])
def test_an_answer_that_is_no_completion_is_asked_for_again(
    garbage: bytes, server: Server, scorer: Callable[..., Endpoint]
) -> None:
    server.answers = [(200, {}, garbage), said("7")]

    assert scorer().score_batch([request()])[0].score == 7


def test_a_refused_request_fails_its_pair_alone_and_at_once(server: Server, scorer: Callable[..., Endpoint]) -> None:
    server.answers = [lambda body: failed(400, "image too large") if body["seed"] == 2 else said(str(body["seed"]))]

    first, second, third = scorer(concurrency=1).score_batch([request(1), request(2), request(3)])

    assert (first.score, second.score, third.score) == (1, None, 3)
    assert second.error is not None
    assert "HTTP 400: image too large" in second.error
    assert len(server.asked) == 3


def test_an_answer_without_a_score_is_asked_for_with_other_seeds_and_then_unparsable(
    server: Server, scorer: Callable[..., Endpoint]
) -> None:
    server.answers = [said("Nice."), said("7", finish_reason="length"), said("Very nice.")]

    [scored] = scorer(tries=3).score_batch([request(seed=5)])

    assert (scored.score, scored.unparsable, scored.words) == (None, True, "Very nice.")
    assert [(body["seed"], body["temperature"]) for body in server.asked] == [(5, 0), (6, 0.7), (7, 0.7)]


def test_silence_ends_with_the_timeout(server: Server, scorer: Callable[..., Endpoint]) -> None:
    judge = scorer(timeout_s=0.05, retries=1)
    server.hold = threading.Event()

    [scored] = judge.score_batch([request()])

    assert scored.error is not None
    assert "no answer within 0.05 s (asked 2 times)" in scored.error


def test_several_requests_are_in_flight(server: Server, scorer: Callable[..., Endpoint]) -> None:
    together = threading.Barrier(4)  # breaks unless four wait at once

    def answer(body: dict[str, Any]) -> Answer:
        together.wait(5)
        return said(str(body["seed"]))

    server.answers = [answer]

    assert [each.score for each in scorer(concurrency=4).score_batch([request(i) for i in range(1, 5)])] == [1, 2, 3, 4]


def test_a_server_that_is_not_there_is_said_before_any_pair(server: Server, scorer: Callable[..., Endpoint]) -> None:
    with pytest.raises(Unreachable, match=r"127.0.0.1:9/v1: ConnectError.*start the server"):
        scorer(url="http://127.0.0.1:9/v1", retries=0)


def test_a_wrong_key_is_said_at_once_and_not_shown(
    server: Server, scorer: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "sk-another-secret")
    [scored] = scorer().score_batch([request()])
    server.models = failed(401, "wrong key sk-another-secret")
    with pytest.raises(AdapterError, match=r"HTTP 401: wrong key \*\*\*: correct the key") as caught:
        scorer()

    assert scored.error is not None
    assert "HTTP 401" in scored.error
    assert "another-secret" not in scored.error + str(caught.value)


def test_a_server_without_a_list_of_models_will_do(server: Server, scorer: Callable[..., Endpoint]) -> None:
    server.models = failed(404)

    assert scorer().score_batch([request()])[0].score == 7


def test_large_images_are_scaled_down(server: Server, scorer: Callable[..., Endpoint]) -> None:
    scorer(max_pixels=1024).score_batch([request(side=64)])

    url = server.asked[0]["messages"][1]["content"][0]["image_url"]["url"]
    assert images.from_base64(url)[0].size == (32, 32)


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"url": "http://me:sk-123456789@host/v1"}, r"url='http://me:\*\*\*@host/v1'"),
        ({"url": "http://host/v1?api_key=sk-1"}, r"url='http://host/v1: String"),
        ({"key_variable": "PGPASSWORD"}, "_API_KEY"),
        ({"scale": [10, 0]}, "lower one"),
        ({"timeout_s": 0}, "greater than 0"),
        ({"key_variable": "UNSET_API_KEY"}, "UNSET_API_KEY holds no key"),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(
    parameters: dict[str, Any], why: str, scorer: Callable[..., Endpoint]
) -> None:
    with pytest.raises(AdapterError, match=why):
        scorer(**parameters)


def test_neither_the_key_nor_its_value_is_in_what_is_recorded(server: Server, scorer: Callable[..., Endpoint]) -> None:
    parameters = {"url": server.url, "model": "judge", "key_variable": "JUDGE_API_KEY"}

    made = resolve.scorer({"class": "endpoint", "parameters": parameters})

    assert KEY not in json.dumps(made.identity())
    assert made.identity()["parameters"]["key_variable"] == "JUDGE_API_KEY"
    assert made.memory_bytes == 0
