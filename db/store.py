"""The artifact store: folders addressed by the digest of their files, in a folder or a bucket behind fsspec.

<store>/<digest>/manifest.json, …        a finished artifact; never changes
<store>/.partial/<random>/               one, or a checkpoint, that is being written or deleted
<store>/.checkpoints/<job id>/<n>/       what a running job left for its next attempt

In a folder, what is written is on the disk before its name appears. A bucket has no rename: the last file that is
uploaded (manifest.json, .complete) makes the others count.
"""

import errno
import hashlib
import json
import os
import posixpath
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMPLETE = ".complete"  # the last file of a checkpoint
_CHUNK_BYTES = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_TEXT = re.compile(rf"os error ({'|'.join(map(str, sorted(_FULL)))})\b")  # how Rust's libraries say it
_ROOM = "make room, or name another place in GRISTMILL_HOME"
_CLEAN = "`gristmill submit upkeep.clean_artifacts`, make room, or name another place in GRISTMILL_ARTIFACTS_URL"


class ArtifactError(Exception):
    """An artifact is missing, damaged or badly named; the message says which and what to do."""


class NoSpace(ArtifactError):
    """A disk is full. Nothing half-written is left on it; another attempt may find room."""


@contextmanager
def _needs_space(place: Path, remedy: str) -> Iterator[None]:
    """Around whatever writes there: that the disk is full is said in one line, with the place and the remedy."""
    try:
        yield
    except NoSpace:
        raise
    except Exception as error:
        if getattr(error, "errno", None) not in _FULL and not _FULL_TEXT.search(str(error)):
            raise
        said = getattr(error, "strerror", None) or str(error)
        raise NoSpace(f"cannot write to {place}, {_free(place)}: {said}: {remedy}") from error


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
        _contents(folder)
        manifest_file = folder / "manifest.json"
        if not manifest_file.exists():
            raise ArtifactError(f"{folder} has no manifest.json: write one that says what the artifact is")
        try:
            manifest = json.loads(manifest_file.read_text())
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{manifest_file} is not JSON: {error}: write it again") from None
        files, digest = _digest(folder)
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
            self._download(f"{self.root}/{digest}", target, digest)
        return target

    def forget(self, digest: str) -> None:
        """Remove this machine's copy of an artifact that was downloaded; where the store is a folder there is none."""
        _check(digest)
        if not self.local and (place := self._cache / digest).exists():
            condemned = self._cache / f".{uuid4().hex}"
            with suppress(OSError):  # another process was first
                place.rename(condemned)
                shutil.rmtree(condemned)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder of this machine to write what is to be stored in; gone at the end. Raises NoSpace when it is full.

        Not in the system's temporary folder, which may be memory, and where nobody clears up after a killed process.
        """
        self._cache.mkdir(parents=True, exist_ok=True)
        _sweep(self._cache.glob(".*"), timedelta(days=1))
        with _needs_space(self._cache, _ROOM), tempfile.TemporaryDirectory(prefix=".", dir=self._cache) as folder:
            yield Path(folder)

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
                if self.exists(digest):
                    self.fs.rm_file(f"{place}/manifest.json")
                self.fs.rm(place, recursive=True)
                return
            condemned = Path(self.root) / ".partial" / uuid4().hex
            condemned.parent.mkdir(exist_ok=True)
            Path(place).rename(condemned)
            shutil.rmtree(condemned)

    def list(self) -> list[str]:
        """The digests of all artifacts in the store."""
        return sorted(self._digests()[0])

    def unfinished(self) -> set[str]:
        """The digests of what is being uploaded into a bucket, or was when its writer was killed."""
        return self._digests()[1]

    def probe(self) -> None:
        """Write and delete a small file; raises what the store raises."""
        name = f"{self.root}/.probe-{uuid4().hex}"
        self.fs.makedirs(self.root, exist_ok=True)
        self.fs.pipe(name, b"gristmill")
        self.fs.rm(name)

    def sweep(self, grace: timedelta) -> int:
        """Remove what killed writers and readers left half-done, if nobody touched it for so long; returns how many."""
        return _sweep([*self._cache.glob(".*"), *(Path(self.root).glob(".partial/*") if self.local else ())], grace)

    def _digests(self) -> tuple[set[str], set[str]]:
        """Of what is whole, and of what is not."""
        if not self.fs.exists(self.root):
            return set(), set()
        # A folder's listing is enough, since a rename put each there; a bucket's names all its files in few requests.
        paths = self.fs.ls(self.root, detail=False) if self.local else self.fs.find(self.root)
        found = [str(path).removeprefix(self.root).strip("/").partition("/") for path in paths]
        digests = {name for name, _, _ in found if _DIGEST.fullmatch(name)}
        whole = digests if self.local else {name for name, _, file in found if file == "manifest.json"} & digests
        return whole, digests - whole

    def _write(self, folder: Path, target: str, files: dict[str, str]) -> None:
        if not self.local:
            for name in sorted(files, key=lambda each: each == "manifest.json"):
                self.fs.put_file(str(folder / name), f"{target}/{name}")
            return
        try:
            self._place(folder, Path(target))
        except OSError:
            if not self.exists(target.rsplit("/", 1)[-1]):  # else another writer was first
                raise

    def _place(self, folder: Path, target: Path, *empty: str) -> None:
        """Copy a folder, and these empty files, to where no half of it is ever seen, be it killed or without power."""
        partial = Path(self.root) / ".partial" / uuid4().hex
        try:
            with _needs_space(Path(self.root), _CLEAN):
                partial.mkdir(parents=True)
                for source in _contents(folder):
                    copy = partial / source.relative_to(folder)
                    if source.is_dir():
                        copy.mkdir()
                    else:
                        shutil.copyfile(source, copy)
                for name in empty:
                    (partial / name).touch()
                _sync(partial)
                target.parent.mkdir(parents=True, exist_ok=True)
                partial.rename(target)
                _sync_one(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _download(self, source: str, target: Path, digest: str | None = None) -> None:
        """Whoever else may write to the bucket can neither lead out of the target nor change what an artifact is."""
        names = [name for path in self.fs.find(source) if (name := str(path).removeprefix(f"{source}/"))]
        if out := next((name for name in names if not _inside(name)), None):
            raise ArtifactError(
                f"{source}/{out[:200]} leads out of its folder: delete it; it was not written by Gristmill"
            )
        partial = self._cache / f".{uuid4().hex}"
        try:
            with _needs_space(self._cache, _ROOM):
                self.fs.get([f"{source}/{name}" for name in names], [str(partial / name) for name in names])
                if digest is not None and _digest(partial)[1] != digest:
                    raise ArtifactError(f"{source} is not what was stored: somebody changed it: put the artifact again")
                _sync(partial)
                target.parent.mkdir(parents=True, exist_ok=True)
                with suppress(OSError):  # another process was first
                    partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


class Checkpoints:
    """What a job keeps between its attempts, on whatever machine: only the newest, replaced atomically."""

    def __init__(self, store: ArtifactStore, job_id: str) -> None:
        self._store, self._base = store, f"{store.root}/.checkpoints/{job_id}"
        self._cached = store._cache / "checkpoints" / job_id

    def save(self, folder: Path) -> None:
        """Keep a copy of the folder; the ones before are removed once it is complete."""
        # Those that an attempt left half-uploaded count as well: the next one must not mix with their files.
        before = self._numbered()
        target = f"{self._base}/{int(before[-1]) + 1 if before else 1:08d}"
        if self._store.local:
            self._store._place(folder, Path(target), _COMPLETE)
        else:
            for path in _contents(folder):
                if path.is_file():
                    self._store.fs.put_file(str(path), f"{target}/{path.relative_to(folder)}")
            self._store.fs.pipe(f"{target}/{_COMPLETE}", b"")
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
        target = self._cached / names[-1]
        if not target.exists():
            shutil.rmtree(self._cached, ignore_errors=True)  # those before it
            self._store._download(place, target)
        return target

    def clear(self) -> None:
        """The job is done: forget its checkpoints."""
        if self._store.fs.exists(self._base):
            self._store.fs.rm(self._base, recursive=True)
        shutil.rmtree(self._cached, ignore_errors=True)

    def _names(self) -> list[str]:
        return [name for name in self._numbered() if self._store.fs.exists(f"{self._base}/{name}/{_COMPLETE}")]

    def _numbered(self) -> list[str]:
        if not self._store.fs.exists(self._base):
            return []
        names = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in self._store.fs.ls(self._base, detail=False)]
        return sorted(name for name in names if name.isdigit())


def _check(digest: str) -> None:
    """A digest comes from rows and parameters: it must not be a way out of the store."""
    if not _DIGEST.fullmatch(digest):
        raise ArtifactError(f"{digest[:80]!r} is no artifact: expected 64 hexadecimal digits")


def _contents(folder: Path) -> list[Path]:
    """All that is in a folder. Refuses what is not in it or has no end: links that lead elsewhere, pipes, devices."""
    found, home = sorted(folder.rglob("*")), folder.resolve()
    for path in found:
        if path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(home)):
            raise ArtifactError(f"{path} is a link to a folder, to another place or to nothing: store the file itself")
        if not (path.is_file() or path.is_dir()):
            raise ArtifactError(f"{path} is neither a file nor a folder: leave it out")
        if str(path).encode(errors="replace") != os.fsencode(path):
            raise ArtifactError(f"the name {path.name!r} in {folder} is not UTF-8: rename it")
    return found


def _inside(name: str) -> bool:
    """Whether a file of this name is in the folder that it is put into."""
    return name == posixpath.normpath(name) and not posixpath.isabs(name) and name.split("/")[0] not in (".", "..")


def _digest(folder: Path) -> tuple[dict[str, str], str]:
    """The digest of each file by its name, and that of them all."""
    files = {str(path.relative_to(folder)): _sha256(path) for path in _contents(folder) if path.is_file()}
    return files, hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hashed.update(chunk)
    return hashed.hexdigest()


def _sync(folder: Path) -> None:
    """To the disk with it: after a power cut, a name without its content would look like a whole artifact."""
    for each in (*folder.rglob("*"), folder):
        _sync_one(each)


def _sync_one(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _sweep(places: Iterable[Path], grace: timedelta) -> int:
    old = [place for place in places if _changed(place) < time.time() - grace.total_seconds()]
    for place in old:
        condemned = place.with_name(f".{uuid4().hex}")
        with suppress(OSError):  # out of the way of a writer who is alive after all: it fails, and shows no half
            place.rename(condemned)
            shutil.rmtree(condemned)
    return len(old)


def _changed(place: Path) -> float:
    """When anything in it last changed, the content's own dates aside; now, if it goes away meanwhile."""
    try:
        return max(each.lstat().st_ctime for each in (place, *place.rglob("*")))
    except FileNotFoundError:
        return time.time()


def _free(place: Path) -> str:
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    return f"{usage.free / 1e6:,.1f} of {usage.total / 1e6:,.1f} MB free"
