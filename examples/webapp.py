"""A web app that enqueues and polls, in plain WSGI; any framework does the same: python examples/webapp.py

POST /users/196/refresh                                    202 {"job": "…"}: submitted, the request does not wait
POST /signups  {"username": "ann", "item_ids": ["50"]}     201 {"job": "…"}: submitted if the sign-up is stored
GET  /jobs/<id>                                            200 {"state": "STARTED", "progress": {…}, …}
GET  /users/196                                            200 {"items": […]}, straight from the cache
"""

import json
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import make_server

from sqlalchemy import String
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from broker.errors import InvalidParams
from broker.submit import within
from db import read
from db.engine import engine, session
from jobs.recommend import cache
from jobs.recommend.tasks import pretrain_user

NAME = 100  # characters


class Base(DeclarativeBase):
    """The app's own tables."""


class Signup(Base):
    """A row of the app, in the same database as the ledger."""

    __tablename__ = "example_signup"
    username: Mapped[str] = mapped_column(String(NAME), primary_key=True)


def refresh(user: str) -> tuple[str, dict[str, Any]]:
    return "202 Accepted", {"job": pretrain_user.submit(username=user, force=True).id}


def sign_up(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    # One transaction: the row and the job are there together or not at all, and the worker is told after the commit.
    with session() as transaction, within(transaction):
        transaction.add(Signup(username=given["username"]))
        transaction.flush()
        job = pretrain_user.submit(username=given["username"], item_ids=given["item_ids"])
    return "201 Created", {"job": job.id}


def read_signup(body: bytes) -> dict[str, Any]:
    match json.loads(body):
        case {"username": str(name), "item_ids": list()} as given if len(name) <= NAME and name.isprintable():
            return given
    form = 'post {"username": "ann", "item_ids": ["50"]}'
    raise InvalidParams(f"{form}: a name of up to {NAME} printable characters, and a list of items")


def state(job_id: str) -> tuple[str, dict[str, Any]]:
    with session() as opened:
        job = read.show(opened, job_id)
    known = {"state": job.state, "progress": job.progress, "result": job.result, "error": job.message}
    return "200 OK", {"job": str(job.id), **known}


def recommendations(user: str) -> tuple[str, dict[str, Any]]:
    found = cache.read(user, top_k=10)
    if found is None:
        return refresh(user)
    return "200 OK", {"items": found.items, "model_version": found.model_version}


def route(method: str, path: list[str], body: bytes) -> tuple[str, dict[str, Any]]:
    match method, path:
        case "POST", ["users", user, "refresh"]:
            return refresh(user)
        case "POST", ["signups"]:
            return sign_up(read_signup(body))
        case "GET", ["jobs", job_id]:
            return state(job_id)
        case "GET", ["users", user]:
            return recommendations(user)
    return "404 Not Found", {"error": f"no such page: {method} /{'/'.join(path)}"}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    path = environ["PATH_INFO"].strip("/").split("/")
    try:
        status, answer = route(environ["REQUEST_METHOD"], path, body)
    except (read.NotFound, cache.UnknownUser) as error:
        status, answer = "404 Not Found", {"error": str(error)}
    except (InvalidParams, json.JSONDecodeError, UnicodeDecodeError) as error:
        status, answer = "400 Bad Request", {"error": str(error)}
    except IntegrityError:
        status, answer = "409 Conflict", {"error": "this user has signed up already"}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


if __name__ == "__main__":
    Base.metadata.create_all(engine())
    with make_server("127.0.0.1", 8000, application) as server:
        print("http://127.0.0.1:8000/users/196")
        server.serve_forever()
