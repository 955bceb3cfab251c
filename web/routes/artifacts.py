"""Artifacts: what they are, and their files, whole or a range. What a digest names never changes."""

import hashlib
import json
import mimetypes
import posixpath
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response, Security
from fastapi import Path as InPath
from pydantic import BaseModel
from starlette.responses import FileResponse

from db.artifact import Artifact
from db.engine import session
from db.read import NotFound
from db.settings import settings
from db.store import ArtifactStore
from db.token import READ
from web.problems import Problem, documented
from web.settings import API
from web.tokens import caller

router = APIRouter(prefix=API, tags=["artifacts"], dependencies=[Security(caller, scopes=[READ])])

Digest = Annotated[str, InPath(min_length=64, max_length=64, pattern="^[0-9a-f]{64}$")]

_HEADERS = [
    {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": said}
    for name, said in (("Range", "`bytes=0-99`: this part of the file."), ("If-None-Match", "The `ETag` of a copy."))
]

# A page of a report may show itself, and do nothing.
_PAGE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"
# What browsers may draw in place; all else that is no page or plain text is a download, whatever its name makes of it.
_DRAWN = frozenset(f"image/{form}" for form in ("png", "jpeg", "gif", "webp", "bmp", "avif"))
_READ = ("text/html", "text/plain", "text/markdown", "text/csv", "application/json")
_FOREVER = "private, max-age=31536000, immutable"
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})|bytes=-(\d{1,18})")

_FILE = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
_FILES: dict[int | str, dict[str, Any]] = {
    200: {**_FILE, "description": "The file."},
    206: {**_FILE, "description": "The range of it that was asked for."},
    304: {"description": "The caller has it."},
}


class File(BaseModel):
    """A file of an artifact."""

    name: str
    size_bytes: int


class ArtifactShown(BaseModel):
    """An artifact. kind, job_id and created_at are null for one that the ledger does not know."""

    digest: str
    kind: str | None
    job_id: UUID | None
    created_at: datetime | None
    manifest: dict[str, Any]
    files: list[File]


@router.get("/artifacts/{digest}", responses=documented(404, 422))
def show_artifact(digest: Digest) -> ArtifactShown:
    """What an artifact is, and its files."""
    folder = _folder(digest)
    with session() as opened:
        row = opened.get(Artifact, digest)
    files = [
        File(name=str(path.relative_to(folder)), size_bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return ArtifactShown(
        digest=digest,
        kind=row.kind if row else None,
        job_id=row.job_id if row else None,
        created_at=row.created_at if row else None,
        manifest=json.loads((folder / "manifest.json").read_text()),
        files=files,
    )


@router.head("/artifacts/{digest}/{name:path}", include_in_schema=False)
@router.get(
    "/artifacts/{digest}/{name:path}",
    response_class=FileResponse,
    responses={**_FILES, **documented(404, 416, 422)},
    openapi_extra={"parameters": _HEADERS},
)
def read_file(request: Request, digest: Digest, name: str) -> Response:
    """A file of an artifact; a `Range` header asks for a part of it."""
    path = _file(_folder(digest), name)
    tag = f'"{hashlib.sha256(f"{digest}/{name}".encode()).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": _FOREVER}
    if tag in (each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if kind == "text/html":
        headers["Content-Security-Policy"] = _PAGE
    if kind not in _DRAWN and kind not in _READ:
        headers["Content-Disposition"] = "attachment"
    _check_range(request, path.stat().st_size)
    return FileResponse(path, media_type=kind, headers=headers)


def _folder(digest: str) -> Path:
    return ArtifactStore(settings().artifacts(), settings().home).fetch(digest)


def _file(folder: Path, name: str) -> Path:
    """Raises NotFound, also for a name that leads out of the folder."""
    path = folder / name
    inside = name == posixpath.normpath(name) and not posixpath.isabs(name) and name.split("/")[0] not in (".", "..")
    try:
        if inside and path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            return path
    except OSError:  # a name that is too long for a file
        pass
    raise NotFound(f"the artifact has no file {name[:200]!r}: GET /api/v1/artifacts/{folder.name} lists them")


def _check_range(request: Request, size: int) -> None:
    """Raises Problem 416 for one that the file does not have. Several ranges, or what is none, are the whole file."""
    asked = request.headers.get("range")
    if asked is None:
        return
    found = _RANGE.fullmatch(asked.strip())
    if found is None or (found[2] and int(found[2]) < int(found[1])):
        request.scope["headers"] = [each for each in request.scope["headers"] if each[0] != b"range"]
    elif (int(found[1]) >= size) if found[1] else (not int(found[3]) or not size):
        raise Problem(416, f"the file has {size:,} bytes", headers={"Content-Range": f"bytes */{size}"})
