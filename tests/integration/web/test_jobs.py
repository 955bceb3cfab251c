"""Jobs over HTTP, without a worker: submitted, listed, cancelled, retried."""

from typing import Any

from starlette.testclient import TestClient

from tests import rows

API = "/api/v1"


def submit(client: TestClient, kind: str = "tests.add", headers: dict[str, str] | None = None, **more: Any) -> Any:
    return client.post(f"{API}/jobs", json={"kind": kind, **more}, headers=headers)


def test_a_job_is_submitted_and_shown(client: TestClient) -> None:
    made = submit(client, params={"x": 2}, priority="bulk", owner="ann", max_attempts=5)

    assert made.status_code == 201
    assert made.json() == {"id": made.json()["id"], "kind": "tests.add", "already_live": False}
    shown = client.get(made.headers["location"]).json()
    assert shown["params"] == {"x": 2, "y": 1}
    assert (shown["state"], shown["priority"], shown["owner"], shown["max_attempts"]) == ("PENDING", "bulk", "ann", 5)
    assert [each["to_state"] for each in client.get(f"{API}/jobs/{shown['id'][:8]}/history").json()] == ["PENDING"]
    assert client.get(f"{API}/jobs/{shown['id']}/attempts").json() == []


def test_every_declared_kind_is_there_with_its_schema(client: TestClient) -> None:
    found = {each["kind"]: each for each in client.get(f"{API}/kinds").json()}
    shown = client.get(f"{API}/kinds/tests.add").json()
    document = client.get("/api/openapi.json").json()

    assert found["classify.predict"]["batch"] == 64
    assert shown["description"] == "Add two numbers."
    assert shown["parameters"]["required"] == ["x"]
    assert "tests.add" in document["components"]["schemas"]["Submission"]["discriminator"]["mapping"]
    assert {each["queue"] for each in client.get(f"{API}/queues").json()} >= {"gpu", "cpu"}


def test_the_same_request_twice_is_one_job(client: TestClient) -> None:
    first = submit(client, headers={"Idempotency-Key": "a"}, params={"x": 1})
    again = submit(client, headers={"Idempotency-Key": "a"}, params={"x": 1})
    other = submit(client, headers={"Idempotency-Key": "a"}, params={"x": 2})
    new = submit(client, headers={"Idempotency-Key": "b"}, params={"x": 1})

    assert (first.status_code, again.status_code, new.status_code) == (201, 200, 201)
    assert first.json()["id"] == again.json()["id"] != new.json()["id"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


def test_the_same_work_is_live_once(client: TestClient) -> None:
    first = submit(client, "tests.keyed", params={"name": "a"})
    again = submit(client, "tests.keyed", params={"name": "a"})

    assert (again.status_code, again.json()["already_live"]) == (200, True)
    assert again.json()["id"] == first.json()["id"]


def test_many_are_submitted_together_or_not_at_all(client: TestClient) -> None:
    good = [{"kind": "tests.add", "params": {"x": n}} for n in range(3)]
    headers = {"Idempotency-Key": "together"}

    made = client.post(f"{API}/jobs/many", json={"jobs": good}, headers=headers)
    again = client.post(f"{API}/jobs/many", json={"jobs": good}, headers=headers)
    bad = client.post(f"{API}/jobs/many", json={"jobs": [*good, {"kind": "tests.add", "params": {"x": "one"}}]})

    assert (made.status_code, bad.status_code) == (201, 422)
    assert [each["id"] for each in made.json()] == [each["id"] for each in again.json()]
    assert bad.json()["detail"].startswith('tests.add: x="one": input should be a valid integer')
    assert len(client.get(f"{API}/jobs").json()["jobs"]) == 3


def test_the_list_is_filtered_and_paged(client: TestClient) -> None:
    jobs = [{"kind": "tests.add", "params": {"x": n}} for n in range(5)]
    client.post(f"{API}/jobs/many", json={"jobs": [*jobs, {"kind": "tests.nothing", "owner": "ann"}]})

    found, asked = [], {"kind": "tests.add", "limit": "2"}
    while asked.get("cursor", "") is not None:
        page = client.get(f"{API}/jobs", params=asked).json()
        found += [each["id"] for each in page["jobs"]]
        asked["cursor"] = page["next"]

    assert len(found) == len(set(found)) == 5
    (of_ann,) = client.get(f"{API}/jobs", params={"owner": "ann", "state": "PENDING"}).json()["jobs"]
    assert of_ann["kind"] == "tests.nothing"
    for bad in ({"cursor": "x"}, {"state": "DONE"}, {"limit": 0}, {"parent": "x"}):
        assert client.get(f"{API}/jobs", params=bad).status_code == 422


def test_a_waiting_job_is_cancelled_once_and_can_be_retried(client: TestClient) -> None:
    job = submit(client, params={"x": 1}, owner="ann").json()["id"]

    early = client.post(f"{API}/jobs/{job}/retry")
    cancelled = client.post(f"{API}/jobs/{job}/cancel")
    twice = client.post(f"{API}/jobs/{job}/cancel")
    retried = client.post(f"{API}/jobs/{job}/retry")

    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    assert (cancelled.status_code, cancelled.json()["state"], twice.status_code) == (200, "REVOKED", 409)
    assert retried.status_code == 201
    assert retried.json()["id"] != job
    assert rows.row(retried.json()["id"]).owner == "ann"


def test_the_door_is_alive_and_ready(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready", "postgres": "ok", "redis": "ok"}


def test_prometheus_is_told_of_the_ledger_and_of_requests(client: TestClient) -> None:
    submit(client, params={"x": 1})
    client.get(f"{API}/jobs/00000000")

    told = client.get("/metrics").text

    assert 'gristmill_jobs_submitted_total{kind="tests.add"} 1.0' in told
    assert 'gristmill_http_requests_total{method="POST",route="/api/v1/jobs",status="201"}' in told
    assert 'gristmill_http_requests_total{method="GET",route="/api/v1/jobs/{job}",status="404"}' in told
    assert "gristmill_http_streams 0.0" in told
