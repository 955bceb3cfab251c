"""The kinds of jobs that can be submitted, and the queues that they wait in."""

from fastapi import APIRouter, Security
from pydantic import BaseModel

from broker.queues import QUEUES
from broker.settings import settings
from db import vitals
from db.engine import session
from db.token import READ
from web.catalogue import Kind, KindWithParameters, described, detailed, job, kinds
from web.problems import documented
from web.settings import API
from web.tokens import caller

router = APIRouter(prefix=API, tags=["kinds"], dependencies=[Security(caller, scopes=[READ])])


class Queue(BaseModel):
    """The live jobs of a queue; each is in one of the first five counts."""

    queue: str
    waiting: int
    held: int
    later: int
    suspended: int
    running: int
    oldest_s: float | None


@router.get("/kinds")
def list_kinds() -> list[Kind]:
    """Every kind of job that can be submitted."""
    return [described(each) for each in kinds().values()]


@router.get("/kinds/{kind}", responses=documented(404))
def show_kind(kind: str) -> KindWithParameters:
    """One kind, with the JSON schema of its parameters."""
    return detailed(job(kind))


@router.get("/queues")
def list_queues() -> list[Queue]:
    """How many jobs are in each queue, and for how long the oldest due one waits."""
    with session() as opened:
        found = vitals.depths(opened, settings().owner_window, queues=QUEUES)
    return [Queue.model_validate(each, from_attributes=True) for each in found]
