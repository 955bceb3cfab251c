"""`/edits` and `/edits/{run}`: evaluations of image editors, and a run's pairs as a gallery, the worst first."""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Query, Request, Response

from db import edit, gallery
from db.edit import EditPair
from db.engine import session, snapshot
from db.gallery import ORDERS, SHOWN
from db.read import NotFound
from db.settings import settings
from db.store import ArtifactStore
from web.pages.entry import Reader
from web.pages.frame import page, pages
from web.problems import Problem

router = pages()

RUNS, PAIRS = 50, 24  # on a page
_DRAWN = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")  # what browsers draw; other originals are links

Text = Annotated[str, Query(max_length=200)]
Number = Annotated[int, Query(ge=1, le=100_000)]


@router.get("/edits")
def show_runs(request: Request, who: Reader, page_number: Annotated[Number, Query(alias="page")] = 1) -> Response:
    """The runs, the newest first."""
    with session() as opened:
        found = gallery.listed(opened, RUNS + 1, RUNS * (page_number - 1))
    return page(
        request, "edits.html", runs=found[:RUNS], number=page_number, more=len(found) > RUNS,
        still=not any(each.live for each in found),
    )  # fmt: skip


@router.get("/edits/{run}")
def show_run(
    request: Request, who: Reader, run: Annotated[str, "id, its beginning, or name"], category: Text = "",
    show: Text = "all", order: Text = "worst", page_number: Annotated[Number, Query(alias="page")] = 1,
) -> Response:  # fmt: skip
    """One run, also while it is going: its sums by category, and a page of its pairs."""
    shown = next((each for each in SHOWN if each == show), None)
    by = next((each for each in ORDERS if each == order), None)
    if shown is None or by is None:
        raise Problem(422, f"show={show!r}, order={order!r}: show is {', '.join(SHOWN)}; order is {', '.join(ORDERS)}")
    with snapshot() as opened:  # of one moment, as it may be going
        known = edit.run(opened, run)
        if known is None:
            raise NotFound(f"there is no run {run[:200]!r}: /edits lists those that there are")
        found = gallery.one(opened, known.id)
        categories = edit.counts(opened, known.id)
        if category and category not in categories:
            raise NotFound(f"the run has no category {category!r}: its page without one lists those that there are")
        reasons = gallery.reasons(opened, known.id) if found.failed else []
        pairs, total = gallery.pairs(
            opened, known.id, category=category or None, shown=shown, order=by, limit=PAIRS,
            offset=PAIRS * (page_number - 1),
        )  # fmt: skip
    gone = _gone(pairs)
    return page(
        request, "edit.html", run=found, categories=categories, reasons=reasons, total=total, number=page_number,
        last=max(1, -(-total // PAIRS)), first=PAIRS * (page_number - 1) + 1, identity=_identity(known),
        filters={"category": category, "show": "" if show == "all" else show, "order": "" if by == "worst" else by},
        cards=[(each, [_picture(each, which, gone) for which in ("original", "edited")]) for each in pairs],
        again_s=5 if found.live else None,
    )  # fmt: skip


def _picture(pair: EditPair, which: str, gone: set[str]) -> dict[str, Any]:
    """Where it is and how large, and why it is not to be seen."""
    place = getattr(pair, which)
    if not place or not place.get("artifact"):
        return {"which": which, "place": None, "said": _lacking(pair, which)}
    if place["artifact"] in gone:
        return {"which": which, "place": None, "said": "gone from the store"}
    drawn = place.get("small", place["file"]).endswith(_DRAWN)
    return {"which": which, "place": place, "said": None if drawn else "browsers do not draw this form"}


def _lacking(pair: EditPair, which: str) -> str:
    if which == "original":
        return "could not be read"
    return {"waiting": "not edited yet", "scored": "was not kept"}.get(pair.state, "not edited")


def _gone(pairs: Iterable[EditPair]) -> set[str]:
    """Artifacts that a folder has no more. A bucket is not asked: each question there takes as long as a picture."""
    store = ArtifactStore(settings().artifacts(), settings().home)
    places = [place for each in pairs for place in (each.original, each.edited) if place and place.get("artifact")]
    named = {place["artifact"] for place in places} if store.local else set()
    return {digest for digest in named if not store.exists(digest)}


def _identity(run: edit.EditRun) -> dict[str, Any]:
    """What edited, what scored, and on which benchmark, as the run's report says it too."""
    return {"editor": run.editor, "scorer": run.scorer, "benchmark": run.benchmark, "seed": run.config.get("seed", 0)}
