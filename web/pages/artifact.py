"""`/artifacts/{digest}`: what a job made, and its files."""

from fastapi import Request, Response

from web.pages.entry import Reader
from web.pages.frame import page, pages
from web.routes import artifacts
from web.routes.artifacts import Digest

router = pages()


@router.get("/artifacts/{digest}")
def show_artifact(request: Request, who: Reader, digest: Digest) -> Response:
    """One artifact."""
    return page(request, "artifact.html", artifact=artifacts.show_artifact(digest))


@router.get("/artifacts/{digest}/{name:path}")
def read_file(request: Request, who: Reader, digest: Digest, name: str) -> Response:
    """One of its files, as the API gives it: a page among them may show itself, and do nothing."""
    return artifacts.read_file(request, digest, name)
