"""The form of a new job: made of the parameters' schema, kept as it was typed, refused in the API's words."""

import re
from html import unescape
from uuid import uuid4

from httpx2 import Response
from starlette.testclient import TestClient

from db import token
from db.engine import session
from tests import rows
from tests.integration.web.conftest import Open
from tests.integration.web.test_jobs import submit
from tests.integration.web.test_pages import HOSTILE, OWN, Markup
from web.catalogue import kinds


def made(location: str) -> str:
    return location.removeprefix("/jobs/").partition("?")[0]


def send(client: TestClient, kind: str, **fields: str) -> Response:
    """The form of this kind with these fields, as a browser would send it."""
    sent = {"nonce": uuid4().hex} | {name.replace("__", "."): text for name, text in fields.items()}
    return client.post(f"/new/{kind}", data=sent, headers=OWN, follow_redirects=False)


def test_every_declared_kind_is_listed_with_what_it_does_and_has_a_form(client: TestClient) -> None:
    listed = client.get("/new").text

    assert "<h2>tests</h2>" in listed
    assert "Sum a list." in listed
    for kind in kinds():
        assert f'href="/new/{kind}"' in listed
        shown = client.get(f"/new/{kind}")
        assert shown.status_code == 200
        for name in kinds()[kind].params_model.model_fields:
            assert f'name="params.{name}"' in shown.text
    assert client.get("/new/tests.ad").status_code == 404


def test_a_field_is_of_the_kind_that_its_schema_says(client: TestClient) -> None:
    similar, teacher = client.get("/new/recommend.pretrain_user").text, client.get("/new/classify.train_teacher").text

    assert re.search(r'<input id="params-username" name="params.username"[^>]* required', similar)
    assert re.search(
        r'<input type="number" id="params-top_k"[^>]* placeholder="100"[^>]* step="1" min="1" max=', similar
    )
    assert re.search(r'<textarea id="params-item_ids" name="params.item_ids"', similar)
    assert re.search(r'<input type="checkbox" id="params-force" name="params.force"[^>]*>', similar)
    assert re.search(r'<option value="">auto</option>\n<option value="off">', teacher)
    assert "How to train" in teacher
    assert "Mixed precision of forward passes." in teacher


def test_what_was_typed_becomes_a_job(client: TestClient) -> None:
    typed = "1\r\n 2\r\n\r\n3"
    numbers = send(client, "tests.total", params__numbers=typed, priority="bulk", owner="ann", delay_s="60")
    value = send(client, "tests.echo", params__value='{"a": [1]}')
    flags = send(client, "tests.train", params__fail="on")

    assert numbers.status_code == value.status_code == flags.status_code == 303
    row = rows.row(made(numbers.headers["location"]))
    assert (row.params, row.owner, row.state) == ({"numbers": [1, 2, 3]}, "ann", "PENDING")
    assert row.run_at > row.created_at
    assert rows.row(made(value.headers["location"])).params == {"value": {"a": [1]}}
    params = rows.row(made(flags.headers["location"])).params
    assert (params["fail"], params["report"]) == (True, False)  # a box that is not ticked is a no


def test_what_is_refused_is_said_beside_its_field_and_stays_as_it_was_typed(client: TestClient) -> None:
    api = submit(client, "tests.add", params={"x": "abc"}).json()["detail"]
    refused = send(client, "tests.add", params__x="abc", params__y="7", max_attempts="0", params__zzz=HOSTILE)
    listed = send(client, "tests.total", params__numbers="[1, 2")

    text = unescape(refused.text)
    assert refused.status_code == listed.status_code == 422
    assert Markup.of(refused.text) == {("script", "src")}
    assert f"<strong>{api.removeprefix('tests.add: x=')}</strong>" in text
    assert re.search(r'id="params-x"[^>]*aria-invalid="true"[^>]*value="abc"', text)
    assert re.search(r'id="params-y"[^>]*value="7"', text)
    assert re.search(r"<details open><summary>How to submit</summary>", text)
    links = '<a href="#params-x">x</a>, <a href="#max_attempts">max_attempts</a>'
    assert f"2 fields are not as the job takes them, {links}. Unknown parameter zzz: the parameters are x, y." in text
    assert '<strong>"0": input should be greater than or equal to 1' in text
    assert "[1, 2</textarea>" in listed.text
    assert "is no JSON" in listed.text
    assert client.get("/api/v1/jobs").json()["jobs"] == []


def test_what_is_wrong_with_fields_together_is_said_beside_the_one_that_it_begins_with(client: TestClient) -> None:
    recent = unescape(send(client, "recommend.train", params__model="sasrec", params__recent="3").text)
    queue = unescape(send(client, "tests.add", params__x="1", queue="moon").text)

    assert re.search(r'id="params-recent"[^>]*aria-invalid="true"', recent)
    assert "<strong>3 is not for model=sasrec: leave it out</strong>" in recent
    assert 'one field is not as the job takes it, <a href="#params-recent">recent</a>.' in recent
    assert re.search(r"<strong>.moon. is of no known class", queue)
    assert "<details open><summary>How to submit</summary>" in queue
    assert "State='x'" not in unescape(client.get("/jobs?state=x").text)  # a name stays as it is


def test_the_same_form_sent_twice_is_one_job_and_changed_another(client: TestClient) -> None:
    (nonce,) = re.findall(r'name="nonce" value="([^"]+)"', client.get("/new/tests.add").text)

    first, again, other = (
        send(client, "tests.add", nonce=nonce, params__x=x).headers["location"] for x in ("1", "1", "2")
    )

    assert again == f"{first}?again=1"
    assert made(other) != made(first)
    assert "Nothing was added" in client.get(again).text


def test_a_form_made_by_hand_starts_no_job_with_defaults_in_place_of_what_it_says(client: TestClient) -> None:
    bare = send(client, "tests.total", numbers="1", colour=HOSTILE)
    aged = client.post("/new/tests.nothing", headers=OWN)

    text = unescape(bare.text)
    assert bare.status_code == aged.status_code == 422
    assert Markup.of(bare.text) == {("script", "src")}
    assert "This form has no field 'numbers': did you mean params.numbers?" in text
    assert "This form has no field 'colour': parameters are named params.NAME" in text
    assert "This form has no nonce: submit the one that GET /new/tests.nothing shows" in aged.text
    assert client.get("/api/v1/jobs").json()["jobs"] == []


def test_what_must_be_given_comes_first_and_what_is_left_empty_says_what_then_holds(client: TestClient) -> None:
    similar, teacher = client.get("/new/recommend.similar").text, client.get("/new/classify.train_teacher").text
    train = client.get("/new/recommend.train").text

    assert re.search(
        r'<select id="params-ties"[^>]*>\n<option value="">by default<(?s:.*?)<p [^>]*>[^<]* Default: true\.', train
    )
    assert similar.index('name="params.item_id"') < similar.index('name="params.genres"')
    assert re.search(r'name="params.year_from"[^>]* placeholder="not given"', similar)
    assert re.search(r'name="expires_s"[^>]* placeholder="never"', similar)
    assert re.search(r'name="params.micro_batch"[^>]* placeholder="as acceleration decides"', teacher)


def test_a_form_begins_with_what_another_job_had(client: TestClient) -> None:
    like = submit(client, "tests.together", params={"n": 4, "how": 'say "no"'}).json()["id"]

    text = unescape(client.get(f"/new/tests.together?from={like}").text)

    assert re.search(r'id="params-n"[^>]*value="4"', text)
    assert re.search(r'id="params-how"[^>]*value="say "no""', text)
    assert re.search(r'id="params-group"[^>]*placeholder="a"[^>]*value=""', text)


def test_who_may_only_look_submits_nothing_and_other_sites_neither(door: Open) -> None:
    guarded = door(web_auth="on")
    with session() as opened:
        weak = token.create(opened, "looker", ["read"])
    asked = guarded.get("/new/tests.nothing", follow_redirects=False)
    guarded.post("/login", data={"token": weak}, headers=OWN)

    shown = guarded.get("/new/tests.nothing").text
    refused = guarded.post("/new/tests.nothing", headers=OWN)
    guarded.post("/logout", headers=OWN)

    assert asked.headers["location"] == "/login?next=%2Fnew%2Ftests.nothing"
    assert "<button" not in shown.partition("<main")[2]
    assert refused.status_code == 403
    assert door().post("/new/tests.nothing", headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert door().get("/api/v1/jobs").json()["jobs"] == []
