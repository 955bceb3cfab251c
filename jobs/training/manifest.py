"""The manifest of a model's folder: what the model is, with which libraries it was made, and a digest of each file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def write(folder: Path, facts: Mapping[str, Any], libraries: tuple[str, ...]) -> dict[str, Any]:
    """manifest.json beside the files that are there, and returned: `facts`, "versions" and "files"."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in libraries}
    digests = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    made = {**facts, "versions": versions, "files": digests}
    write_json(folder / MANIFEST, made)
    return made


def read(folder: Path) -> dict[str, Any]:
    """Raises OSError or ValueError when there is none that can be read."""
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, sort_keys=True, ensure_ascii=False), encoding="utf-8")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
