"""`/jobs`: the list, filtered and paged, the newest first."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Request, Response

from broker.queues import QUEUES
from web.catalogue import kinds
from web.pages.entry import Reader
from web.pages.frame import page, pages
from web.pages.words import STATES
from web.problems import Problem
from web.routes.jobs import list_jobs

router = pages()

PAGE = 50

Text = Annotated[str, Query(max_length=200)]


@router.get("/jobs")
def show_jobs(
    request: Request, who: Reader, state: Text = "", kind: Text = "", queue: Text = "", owner: Text = "",
    parent: Text = "", cursor: Annotated[str, Query(max_length=100)] = "",
) -> Response:  # fmt: skip
    """A page of those that match; a form sends empty fields for what it does not ask."""
    if state and state not in STATES:
        raise Problem(422, f"state={state!r}: one of {', '.join(STATES)}")
    family = _id(parent) if parent else None
    filters = {"state": state, "kind": kind, "queue": queue, "owner": owner, "parent": parent}
    found = list_jobs(
        who, state=state or None, kind=kind or None, queue=queue or None, owner=owner or None,  # type: ignore[arg-type]
        parent=family, cursor=cursor or None, limit=PAGE,
    )  # fmt: skip
    declared = kinds()
    queues = sorted({*QUEUES, *(each.queue_name for each in declared.values()), *filter(None, [queue])})
    return page(
        request, "jobs.html", jobs=found.jobs, next=found.next, filters=filters, filtered=any(filters.values()),
        first=not cursor, states=STATES, kinds=sorted({*declared, *filter(None, [kind])}), queues=queues,
    )  # fmt: skip


def _id(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise Problem(422, f"parent={value!r} is no id of a job") from None
