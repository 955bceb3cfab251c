"""A run's images in the artifact store: written with the rows that name them, and read one at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from PIL.Image import Image
from sqlalchemy.orm import Session

from broker.context import Context
from db import registry
from db.store import ArtifactStore
from jobs.edit import images

T = TypeVar("T")

KIND = "edit images"
_MANIFEST = "manifest.json"
_SMALL = 320  # pixels of the longer side


def store(ctx: Context, folder: Path, write: Callable[[Session, str | None], T]) -> T:
    """Put a folder of images into the store and `write` the rows that name its digest, in one fenced transaction.

    The digest is None for an empty folder. The manifest says nothing of the run: equal images are kept once.
    """
    stored = None
    if any(folder.iterdir()):
        (folder / _MANIFEST).write_text(json.dumps({"kind": KIND}))
        stored = ctx.store.put(folder)
    with ctx.session() as session:
        if stored:
            registry.record(session, stored, KIND, ctx.job_id)
        done = write(session, stored.digest if stored else None)
    # A clean-up may have deleted the same content between `put` and the commit that now protects it.
    if stored and not ctx.store.exists(stored.digest):
        ctx.store.put(folder)
    return done


def placed(folder: Path, file: str, image: Image) -> dict[str, Any]:
    """What a row says of an image whose file is in the folder. A small one is put beside it, for pages of many."""
    small = f"{file}.small.jpg"
    (folder / small).write_bytes(images.thumbnail(image, _SMALL))
    return {"file": file, "small": small, "width": image.width, "height": image.height}


class Images:
    """Some pairs' images, read one at a time; of a remote store this machine has a copy until `forget`."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._folders: dict[str, Path] = {}

    def open(self, place: dict[str, Any]) -> Image:
        """The image at {artifact, file}, in RGB."""
        digest = place["artifact"]
        if digest not in self._folders:
            self._folders[digest] = self._store.fetch(digest)
        return images.decode((self._folders[digest] / place["file"]).read_bytes())[0]

    def forget(self) -> None:
        """Remove the copies: the images of ten thousand pairs would fill a worker's disk."""
        while self._folders:
            self._store.forget(self._folders.popitem()[0])
