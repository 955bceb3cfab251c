"""POST /predict, with the worker's body run in a thread of this process on a model of two words."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select, update
from starlette.testclient import TestClient

from db import ledger, registry
from db.engine import autocommit, session
from db.job import Job
from db.settings import settings
from db.store import ArtifactStore
from jobs.classify import serve
from jobs.classify.tasks import Predict, predict
from tests.integration.web.conftest import Open
from tests.unit.text import bag
from workers.models import ResidentModels

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def mood(client: TestClient, tmp_path: Path) -> str:
    serve.forget_known()
    client.app.state.chosen._until = 0.0  # type: ignore[attr-defined]
    return register("mood", bag.tiny(tmp_path / "mood"))


def register(name: str, folder: Path) -> str:
    store = ArtifactStore(settings().artifacts(), settings().home)
    stored = store.put(folder)
    with session() as opened:
        registry.record(opened, stored, "classify", None)
        registry.add(opened, name, stored.digest, {}, {}, None, promote_over=None)
    return name


@pytest.fixture
def worker() -> Iterator[None]:
    """Answers whatever waits, all of it together."""
    stop = threading.Event()
    ctx = SimpleNamespace(
        models=ResidentModels(), store=ArtifactStore(settings().artifacts(), settings().home), device="cpu"
    )
    waiting = select(Job.id).where(Job.kind == "classify.predict", Job.state == "PENDING")

    def work() -> None:
        while not stop.wait(0.01):
            with autocommit() as connection:
                ids = connection.execute(waiting).scalars().all()
                taken = [each for each in (ledger.claim(connection, job_id, "w", 60) for job_id in ids) if each]
                answers = predict.body(ctx, [Predict(**each.params) for each in taken]) if taken else []
                for each, answer in zip(taken, answers, strict=True):
                    ledger.succeed(connection, each.id, each.attempt, answer)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def ask(client: TestClient, **body: Any) -> Any:
    return client.post("/predict", json=body)


def test_a_text_is_answered_with_its_class(client: TestClient, mood: str, worker: None) -> None:
    answer = ask(client, text="a good day")

    assert (answer.status_code, answer.json()) == (200, {"text": "a good day", "pred_class": "positive", "status": 200})


def test_many_texts_each_have_an_answer(client: TestClient, mood: str, worker: None) -> None:
    texts = ["bad", " ", *["good"] * 998]

    found = ask(client, texts=texts).json()

    assert found[0] == {"text": "bad", "pred_class": "negative", "status": 200}
    assert (found[1]["status"], found[1]["pred_class"]) == (422, None)
    assert [each["pred_class"] for each in found[2:]] == ["positive"] * 998
    assert ask(client, text=["bad"]).json() == found[:1]
    long = ask(client, texts=["good " * 60_000, "bad " * 60_000]).json()
    assert [each["pred_class"] for each in long] == ["positive", "negative"]


def test_those_who_ask_together_each_get_their_own(client: TestClient, mood: str, worker: None) -> None:
    texts = ["good", "bad"] * 16
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: ask(client, text=text).json(), texts))

    assert [each["pred_class"] for each in found] == ["positive", "negative"] * 16


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b'{"text": ""}', 422, "the text is empty"),
        (b'{"text": NaN}', 400, "no JSON"),
        (b'{"text": "\xff\xfe"}', 400, "no JSON"),
        (b'{"txt": "good"}', 422, "txt"),
        (b'{"text": 1}', 422, "text"),
        (b'{"texts": []}', 422, "texts"),
        (b'{"text": "good", "model": "nothing"}', 422, "'nothing' is not in the registry"),
        (b'{"text": "' + b"x" * (10 << 20) + b'"}', 413, "GRISTMILL_WEB_BODY_BYTES"),
    ],
)
def test_errors_are_of_the_same_form(client: TestClient, mood: str, body: bytes, status: int, said: str) -> None:
    answer = client.post("/predict", content=body, headers=JSON)

    found = answer.json()
    assert (answer.status_code, found["status"], found["pred_class"]) == (status, status, None)
    assert "text" in found
    assert said in found["detail"]
    assert client.get("/predict").json()["status"] == 405


def test_without_a_worker_the_answer_comes_in_time(mood: str, door: Open) -> None:
    client = door(predict_seconds=0.3, predict_model=mood)

    late = ask(client, text="good")

    assert (late.status_code, late.json()["status"], late.json()["text"]) == (504, 504, "good")
    with session() as opened:
        assert opened.scalars(select(Job.expires_at)).one() is not None  # nobody is to answer it later


def test_which_model_is_asked_must_be_clear(client: TestClient, mood: str, tmp_path: Path) -> None:
    with session() as opened:
        opened.execute(update(registry.Model).values(is_current=False))
    none = ask(client, text="good")
    with session() as opened:
        opened.execute(update(registry.Model).values(is_current=True))
    register("other", bag.tiny(tmp_path / "other", good="fine"))
    two = ask(client, text="good")

    assert (none.status_code, two.status_code) == (503, 503)
    assert "train one" in none.json()["detail"]
    assert "(mood, other)" in two.json()["detail"]
