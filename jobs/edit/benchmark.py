"""Reads a benchmark file as a stream: it may hold tens of thousands of images, of which one is in memory at a time.

{"categories": {NAME: [PAIR, …]}} or {"categories": [{"name": NAME, "pairs": [PAIR, …]}]}; a PAIR is
{"id", "instruction", "description", and "image" (base64 or a data URL) or "image_path" (in the file's folder)}.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ijson
from ijson.common import ObjectBuilder

from broker.errors import JobError
from broker.limits import shown
from db.storable import clean
from jobs.edit import images
from jobs.edit.images import ImageError

_CHARACTERS = 200  # of the name of a category or a pair
_TEXT_CHARACTERS = 20_000  # of an instruction or a description
_FILE_BYTES = 256 << 20
_SHAPE = '{"categories": {"name": [{"id": …, "image": …, "instruction": …}, …]}}'

Events = Iterator[tuple[str, Any]]


@dataclass(frozen=True)
class Survey:
    """What a benchmark holds: a digest of the file, and how many pairs each of the categories asked for has."""

    sha256: str
    pairs: dict[str, int]
    known: frozenset[str]  # all of its categories


@dataclass(frozen=True)
class Item:
    """A pair as the file has it, unchecked but for its names."""

    category: str
    id: str
    position: int
    fields: dict[str, Any]

    def text(self, name: str) -> str:
        """Its instruction or description, as far as that is a text."""
        found = self.fields.get(name)
        return found[:_TEXT_CHARACTERS] if isinstance(found, str) else ""

    def image(self, folder: Path) -> bytes:
        """The file of its image. Raises ImageError for that, and for an instruction that cannot be followed."""
        instruction = self.fields.get("instruction")
        if not isinstance(instruction, str) or not instruction.strip():
            raise ImageError(f"instruction={shown(instruction)}: it is empty or no text: say what is to be changed")
        if len(instruction) > _TEXT_CHARACTERS:
            raise ImageError(f"the instruction has {len(instruction):,} characters: the limit is {_TEXT_CHARACTERS:,}")
        inline, path = (self.fields.get(name) for name in ("image", "image_path"))
        if (inline is None) == (path is None):
            raise ImageError("it has both image and image_path, or neither: give one of them")
        if not isinstance(given := path if inline is None else inline, str):
            raise ImageError(f"its image is {shown(given)}: give base64 text in image, or a path in image_path")
        return images.bytes_of(given) if path is None else _file(folder, given)


def survey(path: Path, categories: Collection[str] | None) -> Survey:
    """One pass over the file, before anything is recorded.

    Raises JobError, one line, for what is wrong with the file itself: no JSON or of another shape, a pair without an
    id or with one that its category has already, a category that is asked for and not there or empty.
    """
    seen: dict[str, set[str]] = {}
    with _opened(path) as file:
        hashed = _Hashed(file)
        for category, pair in _pairs(path, hashed):
            ids = seen.setdefault(category, set())
            if pair is None or (categories is not None and category not in categories):
                continue
            if (name := _id(path, category, pair, len(ids))) in ids:
                raise JobError(f"{path}: category {category!r} has the id {name!r} twice: rename one")
            ids.add(name)
        sha256 = hashed.digest()
    chosen = list(seen) if categories is None else list(dict.fromkeys(categories))
    if unknown := [each for each in chosen if each not in seen]:
        there = ", ".join(map(shown, seen)) or "none"
        raise JobError(f"{path} has no category {shown(unknown[0])}: it has {there}")
    if empty := [each for each in chosen if not seen[each]]:
        raise JobError(f"{path}: category {empty[0]!r} has no pairs: fill it, or leave it out by `categories:`")
    if not chosen:
        raise JobError(f"{path} has no categories: write {_SHAPE}")
    return Survey(sha256, {each: len(seen[each]) for each in seen if each in chosen}, frozenset(seen))


def items(path: Path, categories: Collection[str]) -> Iterator[Item]:
    """The pairs of these categories in the order of the file."""
    position = 0
    with _opened(path) as file:
        for category, pair in _pairs(path, file):
            if pair is not None and category in categories:
                yield Item(category, _id(path, category, pair, position), position, pair)
                position += 1


class _Hashed:
    """A file whose content is hashed as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._sha256 = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(size)
        self._sha256.update(part)
        return part

    def digest(self) -> str:
        while self.read(1 << 20):
            pass
        return self._sha256.hexdigest()


def _opened(path: Path) -> BinaryIO:
    if not path.is_file():  # a pipe would be waited for
        raise JobError(f"{path} is not a file on this worker: correct `benchmark:`")
    try:
        return path.open("rb")
    except OSError as error:
        raise JobError(f"{path} cannot be read on this worker ({error.strerror}): correct `benchmark:`") from None


def _id(path: Path, category: str, pair: Any, number: int) -> str:
    found = pair.get("id") if isinstance(pair, dict) else None
    if isinstance(found, bool) or not isinstance(found, str | int) or not 0 < len(str(found)) <= _CHARACTERS:
        raise JobError(
            f"{path}: category {category!r}, pair {number}: its id is {shown(found)}: give each pair a text of at most "
            f"{_CHARACTERS} characters"
        )
    return clean(str(found))


def _pairs(path: Path, file: Any) -> Iterator[tuple[str, Any]]:
    """(category, pair); and (category, None) where a category begins."""
    events: Events = ijson.basic_parse(file, use_float=True)
    try:
        if next(events)[0] != "start_map":
            raise JobError(f"{path} is no JSON object: write {_SHAPE}")
        for event, name in events:
            if event == "end_map":
                break
            event, _ = next(events)
            if name == "categories" and event == "start_map":
                yield from _by_name(path, events)
            elif name == "categories" and event == "start_array":
                yield from _in_a_list(path, events)
            elif name == "categories":
                raise JobError(f"{path}: categories is neither an object nor a list: write {_SHAPE}")
            else:
                _value(events, event, None)
        for _ in events:  # what comes behind it is an error
            pass
    except (ijson.JSONError, UnicodeDecodeError, RecursionError) as error:
        said = " ".join(str(error).split())[:200] or "it ends too early"
        raise JobError(f"{path} is not JSON that can be read: {said}: write the file again") from None


def _by_name(path: Path, events: Events) -> Iterator[tuple[str, Any]]:
    for event, name in events:
        if event == "end_map":
            return
        yield from _list(path, events, name)


def _in_a_list(path: Path, events: Events) -> Iterator[tuple[str, Any]]:
    for event, _ in events:
        if event == "end_array":
            return
        if event != "start_map":
            raise JobError(f'{path}: a category in the list is no object: write {{"name": …, "pairs": […]}}')
        name: Any = None
        for event, key in events:
            if event == "end_map":
                break
            if key == "pairs":
                yield from _list(path, events, name)
            else:
                event, value = next(events)
                found = _value(events, event, value)
                name = found if key == "name" else name


def _list(path: Path, events: Events, name: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(name, str) or not name.strip() or len(name) > _CHARACTERS:
        raise JobError(
            f'{path}: a category is named {shown(name)}: give "name", before "pairs", as a text of at most '
            f"{_CHARACTERS} characters"
        )
    name = clean(name)
    event, _ = next(events)
    if event != "start_array":
        raise JobError(f"{path}: category {name!r} is no list of pairs: write {_SHAPE}")
    yield name, None
    for event, value in events:
        if event == "end_array":
            return
        yield name, _value(events, event, value)


def _value(events: Events, event: str, value: Any) -> Any:
    """The value that begins with this event, read to its end."""
    builder, depth = ObjectBuilder(), 0
    while True:
        builder.event(event, value)
        depth += event.startswith("start_") - event.startswith("end_")
        if depth == 0:
            return builder.value
        event, value = next(events)


def _file(folder: Path, name: str) -> bytes:
    try:
        place = (folder / name).resolve()
        if not place.is_relative_to(folder.resolve()):
            raise ImageError(f"image_path={shown(name)} leads out of the benchmark's folder: put the image into it")
        if not place.is_file():
            raise ImageError(f"image_path={shown(name)}: there is no such file in {folder}: correct the path")
        if (size := place.stat().st_size) > _FILE_BYTES:
            raise ImageError(f"image_path={shown(name)} has {size:,} bytes: the limit is {_FILE_BYTES:,}")
        return place.read_bytes()
    except (OSError, ValueError) as error:  # a name with a NUL character is a ValueError
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"image_path={shown(name)} cannot be read: {getattr(error, 'strerror', error)}") from None
