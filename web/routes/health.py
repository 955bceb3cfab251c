"""Whether the door is alive and of use, for those who start and stop it. Open to all."""

from typing import Literal

import redis
from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from broker.settings import make_client
from db.migrate import is_current
from db.settings import SettingsError

router = APIRouter(prefix="/health", tags=["health"])


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """What it needs. Without Redis jobs are recorded all the same, and sent when it is back."""

    status: Literal["ready", "not ready"]
    postgres: Literal["ok", "away", "to be migrated"]
    redis: Literal["ok", "away"]


@router.get("/live")
async def live() -> Live:
    """Restart the process when this does not answer."""
    return Live()


@router.get("/ready", responses={503: {"model": Ready, "description": "Send it no requests."}})
def ready(response: Response) -> Ready:
    """Send requests only while this answers 200."""
    found = _postgres()
    if found != "ok":
        response.status_code = 503
    return Ready(status="ready" if found == "ok" else "not ready", postgres=found, redis=redis_now())


def _postgres() -> Literal["ok", "away", "to be migrated"]:
    try:
        return "ok" if is_current() else "to be migrated"
    except (SQLAlchemyError, SettingsError):
        return "away"


def redis_now() -> Literal["ok", "away"]:
    """Asks it; one that hangs is given up after some seconds."""
    try:
        with make_client() as client:
            client.ping()
        return "ok"
    except (redis.RedisError, SettingsError, OSError):
        return "away"
