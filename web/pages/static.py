"""The style sheet and the script, under addresses that change with what they hold."""

import hashlib
from pathlib import Path

from fastapi import APIRouter, Response

from db.read import NotFound

_TYPES = {"style.css": "text/css", "live.js": "text/javascript"}
_FILES = {name: Path(__file__).with_name(name).read_bytes() for name in _TYPES}
ADDRESSES = {name: f"/pages/{name}?{hashlib.sha256(content).hexdigest()[:12]}" for name, content in _FILES.items()}

router = APIRouter(include_in_schema=False)


@router.api_route("/pages/{name}", methods=["GET", "HEAD"])
async def read_static(name: str) -> Response:
    """Open to all: the page that asks for a token has a style, too."""
    if name not in _FILES:
        raise NotFound(f"there is no {name[:80]!r} here")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_FILES[name], media_type=_TYPES[name], headers=headers)
