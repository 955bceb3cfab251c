"""Models, artifacts and recommendations over HTTP."""

import json
import threading
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select, text
from starlette.testclient import TestClient

from db import ledger, registry
from db import recommend as rows
from db.engine import autocommit, session
from db.job import Job
from db.recommend import CatalogueItem, UserProfile
from db.settings import settings
from db.store import ArtifactStore
from tests.chaos.servers import until
from tests.integration.web.conftest import Open

API = "/api/v1"
CONTENT = bytes(range(256)) * 4


@pytest.fixture
def digest(client: TestClient, tmp_path: Path) -> str:
    """Of an artifact that is version 1 and 2 of a model, the second in use."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights.bin").write_bytes(CONTENT)
    (tmp_path / "report.html").write_text("<p>fine</p>")
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "classify"}))
    stored = ArtifactStore(settings().artifacts(), settings().home).put(tmp_path)
    with session() as opened:
        registry.record(opened, stored, "classify", None)
        for in_use in (None, 1):
            registry.add(opened, "mood", stored.digest, {"accuracy": 0.9}, {}, None, promote_over=in_use)
    return stored.digest


def test_models_are_listed_promoted_and_rolled_back(client: TestClient, digest: str) -> None:
    listed = client.get(f"{API}/models", params={"name": "mood"}).json()

    assert [(each["version"], each["is_current"], each["metrics"]) for each in listed] == [
        (2, True, {"accuracy": 0.9}),
        (1, False, {"accuracy": 0.9}),
    ]
    assert client.post(f"{API}/models/mood/rollback").json()["version"] == 1
    assert client.post(f"{API}/models/mood/rollback").status_code == 409
    assert client.post(f"{API}/models/mood/2/promote").json()["is_current"]
    assert client.get(f"{API}/models/mood/3").status_code == 404
    assert client.post(f"{API}/models/none/rollback").status_code == 404


def test_an_artifact_and_ranges_of_its_files(client: TestClient, digest: str) -> None:
    place = f"{API}/artifacts/{digest}"
    shown = client.get(place).json()
    assert (shown["kind"], shown["manifest"]) == ("classify", {"kind": "classify"})
    assert {"name": "sub/weights.bin", "size_bytes": 1024} in shown["files"]

    file = f"{place}/sub/weights.bin"
    whole = client.get(file)
    assert whole.content == CONTENT
    for asked, status, found in (
        ("bytes=2-4", 206, CONTENT[2:5]),
        ("bytes=1000-", 206, CONTENT[1000:]),
        ("bytes=-3", 206, CONTENT[-3:]),
        ("bytes=5-2", 200, CONTENT),
        ("lines=1-2", 200, CONTENT),
    ):
        part = client.get(file, headers={"Range": asked})
        assert (part.status_code, part.content) == (status, found), asked
    beyond = client.get(file, headers={"Range": "bytes=1024-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */1024")
    assert client.get(file, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    assert whole.headers["Content-Disposition"] == "attachment"
    report = client.get(f"{place}/report.html").headers
    assert "sandbox" in report["Content-Security-Policy"]
    assert "Content-Disposition" not in report


@pytest.mark.parametrize("name", ["none", "../manifest.json", "%2e%2e/%2e%2e/etc/passwd", "sub", "x" * 5000])
def test_nothing_beside_an_artifact_is_shown(client: TestClient, digest: str, name: str) -> None:
    assert client.get(f"{API}/artifacts/{digest}/{name}").status_code in (404, 422)
    assert client.get(f"{API}/artifacts/{'0' * 64}/{name}").status_code in (404, 422)


def test_a_stranger_is_recommended_what_is_popular(client: TestClient) -> None:
    with session() as opened:
        opened.add(CatalogueItem(item_id="50", title="Star Wars", features={}, popularity=3.0))

    found = client.get(f"{API}/recommendations/nobody", params={"why": True}).json()

    assert (found["verdict"], found["basis"], found["cached_at"]) == ("popular", "popular", None)
    assert found["items"] == [{"item": "50", "title": "Star Wars", "score": 3.0, "why": [], "like": []}]


def test_after_a_rollback_the_older_version_s_list_is_served_though_it_is_old(client: TestClient, digest: str) -> None:
    ann = {"username": "ann", "profile_hash": "a", "features": {}}
    with session() as opened:
        opened.add(UserProfile(username="ann", item_ids=["50"], item_count=1, features={}, profile_hash="a"))
        for version, over in ((1, None), (2, 1)):
            registry.add(opened, rows.MODEL, digest, {}, {}, None, promote_over=over)
            opened.flush()
            rows.put_lists(opened, [ann | {"items": [[f"of {version}", 1.0]]}], model_version=version, top_k=100)
        opened.execute(text("UPDATE recommendation_cache SET cached_at = now() - interval '99 days'"))
    assert client.get(f"{API}/recommendations/ann", params={"wait": 0}).json()["verdict"] == "queued"

    client.post(f"{API}/models/{rows.MODEL}/rollback").raise_for_status()

    served = client.get(f"{API}/recommendations/ann", params={"wait": 0}).json()
    assert (served["verdict"], served["model_version"], served["items"][0]["item"]) == ("fresh", 1, "of 1")


def test_a_list_that_must_be_computed_is_queued_or_waited_for(client: TestClient, digest: str, door: Open) -> None:
    with session() as opened:
        registry.add(opened, "recommend", digest, {}, {}, None, promote_over=None)
        opened.add(UserProfile(username="ann", item_ids=["50"], item_count=1, features={}, profile_hash="a"))

    queued = client.get(f"{API}/recommendations/ann", params={"wait": 0})

    assert (queued.status_code, queued.json()["verdict"]) == (202, "queued")
    job = queued.json()["job"]
    with session() as opened:
        row = opened.scalars(select(Job)).one()
        assert (str(row.id), row.kind, row.priority) == (job, "recommend.pretrain_user", 0)

    def fail() -> None:
        until(lambda: client.app.state.feed._waiting)  # type: ignore[attr-defined]
        with autocommit() as connection:
            claimed = ledger.claim(connection, UUID(job), "w", 60)
            assert claimed is not None
            error = {"type": "JobError", "module": "m", "message": "no such artifact", "traceback": None}
            ledger.fail(connection, claimed.id, claimed.attempt, error, permanent=True)

    worker = threading.Thread(target=fail)
    worker.start()
    failed = client.get(f"{API}/recommendations/ann", params={"wait": 30})
    worker.join()
    assert (failed.status_code, failed.json()["code"]) == (409, "conflict")
    assert "no such artifact" in failed.json()["detail"]
