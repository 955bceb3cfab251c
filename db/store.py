"""The artifact store: folders addressed by the digest of their files, in a folder or a bucket behind fsspec.

<store>/<digest>/manifest.json, …        a finished artifact; never changes
<store>/.partial/<random>/               one that is being written
<store>/.checkpoints/<job id>/<n>/       what a running job left for its next attempt
"""

import hashlib
import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


class ArtifactError(Exception):
    """An artifact is missing, damaged or badly named; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact that is in the store."""

    digest: str
    size_bytes: int
    manifest: dict[str, Any]


class ArtifactStore:
    """Artifacts under one fsspec URL. Remote ones are downloaded once and kept under `home`."""

    def __init__(self, url: str, home: Path) -> None:
        # Other processes write as well: a listing that was kept would hide what they stored.
        self.fs, self.root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self.local = isinstance(self.fs, LocalFileSystem)
        self._cache = home / "artifact-cache"

    def put(self, folder: Path) -> Stored:
        """Store a folder that holds a manifest.json; the same content is stored once. Never half visible."""
        manifest_file = folder / "manifest.json"
        if not manifest_file.exists():
            raise ArtifactError(f"{folder} has no manifest.json: write one that says what the artifact is")
        try:
            manifest = json.loads(manifest_file.read_text())
        except ValueError as error:
            raise ArtifactError(f"{manifest_file} is not JSON: {error}: write it again") from None
        files = {str(p.relative_to(folder)): _sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        size = sum((folder / name).stat().st_size for name in files)
        if not self.exists(digest):
            self._write(folder, f"{self.root}/{digest}", files)
        return Stored(digest, size, manifest)

    def fetch(self, digest: str) -> Path:
        """A local folder with the artifact's files. Raises ArtifactError when the store does not have it."""
        _check(digest)
        if not self.exists(digest):
            raise ArtifactError(f"artifact {digest[:12]}… is not in the store {self.root}: it was deleted or never put")
        if self.local:
            return Path(self.root) / digest
        target = self._cache / digest
        if not target.exists():
            partial = self._cache / f".{uuid4().hex}"
            self.fs.get(f"{self.root}/{digest}/", f"{partial}/", recursive=True)
            try:
                partial.rename(target)
            except OSError:  # another process was first
                shutil.rmtree(partial)
        return target

    def exists(self, digest: str) -> bool:
        """Whether the store has the whole artifact: the manifest is the last file to appear."""
        _check(digest)
        return bool(self.fs.exists(f"{self.root}/{digest}/manifest.json"))

    def delete(self, digest: str) -> None:
        """Remove the artifact; no error when it is gone already. Never half visible: its manifest goes first."""
        _check(digest)
        place = f"{self.root}/{digest}"
        with suppress(FileNotFoundError):
            if not self.local:
                self.fs.rm_file(f"{place}/manifest.json")
                self.fs.rm(place, recursive=True)
                return
            condemned = Path(self.root) / ".partial" / uuid4().hex
            condemned.parent.mkdir(exist_ok=True)
            Path(place).rename(condemned)
            shutil.rmtree(condemned)

    def list(self) -> list[str]:
        """The digests of all artifacts in the store."""
        if not self.fs.exists(self.root):
            return []
        names = (str(path).rstrip("/").rsplit("/", 1)[-1] for path in self.fs.ls(self.root, detail=False))
        return sorted(name for name in names if _DIGEST.fullmatch(name))

    def probe(self) -> None:
        """Write and delete a small file; raises what the store raises."""
        name = f"{self.root}/.probe-{uuid4().hex}"
        self.fs.makedirs(self.root, exist_ok=True)
        self.fs.pipe(name, b"gristmill")
        self.fs.rm(name)

    def _write(self, folder: Path, target: str, files: dict[str, str]) -> None:
        if not self.local:  # a bucket has no rename: the manifest is uploaded last and makes the artifact visible
            for name in sorted(files, key=lambda each: each == "manifest.json"):
                self.fs.put_file(str(folder / name), f"{target}/{name}")
            return
        partial = Path(self.root) / ".partial" / uuid4().hex
        try:
            shutil.copytree(folder, partial)
            try:
                partial.rename(target)
            except OSError:
                if not self.exists(target.rsplit("/", 1)[-1]):
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)


class Checkpoints:
    """What a job keeps between its attempts, on whatever machine: only the newest, replaced atomically."""

    def __init__(self, store: ArtifactStore, job_id: str) -> None:
        self._store, self._base = store, f"{store.root}/.checkpoints/{job_id}"

    def save(self, folder: Path) -> None:
        """Keep a copy of the folder; the ones before are removed once it is complete."""
        # Those that an attempt left half-written count as well: the next one must not mix with their files.
        before = self._numbered()
        name = f"{int(before[-1]) + 1 if before else 1:08d}"
        target = f"{self._base}/{name}"
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self._store.fs.makedirs(f"{target}/{path.relative_to(folder).parent}".rstrip("/."), exist_ok=True)
                self._store.fs.put_file(str(path), f"{target}/{path.relative_to(folder)}")
        self._store.fs.pipe(f"{target}/.complete", b"")
        for old in before:
            self._store.fs.rm(f"{self._base}/{old}", recursive=True)

    def load(self) -> Path | None:
        """A local folder with the newest complete checkpoint."""
        names = self._names()
        if not names:
            return None
        place = f"{self._base}/{names[-1]}"
        if self._store.local:
            return Path(place)
        target = self._store._cache / "checkpoints" / self._base.rsplit("/", 1)[-1] / names[-1]
        if not target.exists():
            partial = target.with_name(f".{uuid4().hex}")
            self._store.fs.get(f"{place}/", f"{partial}/", recursive=True)
            partial.rename(target)
        return target

    def clear(self) -> None:
        """The job is done: forget its checkpoints."""
        if self._store.fs.exists(self._base):
            self._store.fs.rm(self._base, recursive=True)

    def _names(self) -> list[str]:
        return [name for name in self._numbered() if self._store.fs.exists(f"{self._base}/{name}/.complete")]

    def _numbered(self) -> list[str]:
        if not self._store.fs.exists(self._base):
            return []
        names = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in self._store.fs.ls(self._base, detail=False)]
        return sorted(name for name in names if name.isdigit())


def _check(digest: str) -> None:
    """A digest comes from rows and parameters: it must not be a way out of the store."""
    if not _DIGEST.fullmatch(digest):
        raise ArtifactError(f"{digest!r} is no artifact: expected 64 hexadecimal digits")


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hashed.update(chunk)
    return hashed.hexdigest()
