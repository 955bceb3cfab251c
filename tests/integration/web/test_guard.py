"""Who may call: tokens and their scopes, the loopback address, pages of other sites; and how often."""

import pytest
from starlette.testclient import TestClient

from db import token
from db.engine import session
from db.settings import SettingsError
from db.token import TokenError
from tests.integration.web.conftest import Open
from web.app import create
from web.settings import Settings

JOBS = "/api/v1/jobs"


def made(name: str, *scopes: str) -> dict[str, str]:
    with session() as opened:
        return {"Authorization": f"Bearer {token.create(opened, name, scopes)}"}


def test_a_token_may_do_what_its_scopes_say(door: Open) -> None:
    client = door(web_auth="on")
    reader, submitter, admin = made("reads", "read"), made("submits", "submit"), made("all", "admin")

    assert client.get(JOBS, headers=reader).status_code == 200
    refused = client.post(JOBS, json={"kind": "tests.nothing"}, headers=reader)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert 'scope="submit"' in refused.headers["WWW-Authenticate"]
    assert client.get(JOBS, headers=submitter).status_code == 403
    assert client.post(JOBS, json={"kind": "tests.nothing"}, headers=submitter).status_code == 201
    assert client.get(JOBS, headers=admin).status_code == 200
    assert client.get("/health/live").status_code == 200


def test_no_token_a_wrong_one_and_a_revoked_one_are_refused(door: Open) -> None:
    client, headers = door(web_auth="on"), made("app", "read")
    with session() as opened:
        token.revoke(opened, "app")

    for given in (None, headers, {"Authorization": "Bearer gm_guess"}, {"Authorization": "Basic YTpi"}):
        answer = client.get(JOBS, headers=given)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_only_a_digest_is_kept(door: Open) -> None:
    headers = made("app", "read")

    with session() as opened:
        (row,) = token.listed(opened)
        assert headers["Authorization"][7:] not in str(vars(row))
        with pytest.raises(TokenError, match="is in use"):
            token.create(opened, "app", ["read"])
    with session() as opened, pytest.raises(TokenError, match="scope='write'"):
        token.create(opened, "other", ["write"])


def test_a_door_for_others_is_never_open() -> None:
    with pytest.raises(SettingsError, match=r"GRISTMILL_WEB_AUTH=off on 0\.0\.0\.0"):
        create(Settings(web_host="0.0.0.0", web_auth="off"))
    assert Settings(web_host="0.0.0.0").guarded
    assert not Settings(web_host="127.0.0.1").guarded


def test_pages_of_other_sites_change_nothing(client: TestClient) -> None:
    body = {"kind": "tests.nothing"}

    foreign = client.post(JOBS, json=body, headers={"Origin": "https://evil.example"})
    rebound = client.get(JOBS, headers={"Host": "evil.example"})
    own = client.post(JOBS, json=body, headers={"Origin": "http://localhost:8004"})

    assert (foreign.status_code, rebound.status_code, own.status_code) == (403, 400, 201)
    assert "access-control-allow-origin" not in client.get(JOBS, headers={"Origin": "https://evil.example"}).headers


def test_origins_that_are_named_may_call(door: Open) -> None:
    client = door(web_origins="https://shop.example")
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}

    assert client.options(JOBS, headers=headers).headers["access-control-allow-origin"] == "https://shop.example"
    assert client.post(JOBS, json={"kind": "tests.nothing"}, headers=headers).status_code == 201


def test_who_asks_too_often_is_told_to_wait(door: Open) -> None:
    client = door(web_rate=0.5)

    answers = [client.get(JOBS) for _ in range(2)]

    assert [each.status_code for each in answers] == [200, 429]
    assert int(answers[1].headers["Retry-After"]) in (1, 2)
