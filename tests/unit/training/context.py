"""What the engine uses of a job's context, without a queue: checkpoints in a folder, progress in a list."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Killed(BaseException):
    pass


class Ctx:
    """What the engine uses of a job's context: checkpoints in a folder, and a kill at a given step."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.saved, self.stopping = folder, 0, False
        self.told: list[tuple[int, int]] = []
        self.store = self

    @contextmanager
    def scratch(self) -> Any:
        yield self.folder / f"{self.saved + 1}"

    def save_checkpoint(self, folder: Path) -> None:
        self.saved += 1

    def load_checkpoint(self) -> Path | None:
        return self.folder / f"{self.saved}" if self.saved else None

    def progress(self, done: int, total: int, *, stage: str = "", message: str = "") -> None:
        self.told.append((done, total))

    def note(self, **facts: Any) -> None:
        raise AssertionError(f"no batch had to be halved: {facts}")
