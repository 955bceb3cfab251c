"""An editor and a scorer for tests: they write down whom they were asked about, and fail where the instruction says."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from jobs.edit.adapters.base import Editor, EditRequest, EditResult, Scored, Scorer, ScoreRequest


class _Traced:
    """One line in the file `trace` for each call: what is done, and the descriptions of the pairs."""

    def __init__(self, *, trace: str, memory: int = 0, delay_s: float = 0.0) -> None:
        self.trace, self.memory, self.delay_s = Path(trace), memory, delay_s

    @property
    def memory_bytes(self) -> int:
        return self.memory

    def load(self) -> None:
        self.tell("load")

    def unload(self) -> None:
        self.tell("unload")

    def tell(self, what: str, requests: Sequence[Any] = ()) -> None:
        line = " ".join([what, *(each.description for each in requests)])
        with self.trace.open("a") as file:
            file.write(line + "\n")
        time.sleep(self.delay_s * len(requests))
        for each in requests:
            match each.instruction:
                case "raise":
                    raise ValueError("a bad pixel")
                case "too large" if len(requests) > 1:
                    raise MemoryError("out of memory")
                case "die":
                    os.kill(os.getpid(), signal.SIGKILL)


class Inverter(_Traced, Editor):
    name = "inverter"

    def edit_batch(self, requests: Sequence[EditRequest]) -> list[EditResult]:
        self.tell("edit", requests)
        return [
            EditResult(None, "it cannot be done") if each.instruction == "refuse"
            else EditResult(ImageChops.invert(each.image))
            for each in requests
        ]  # fmt: skip


class Difference(_Traced, Scorer):
    """How far apart the two images' mean colours are."""

    name = "difference"
    scale = (0.0, 10.0)

    def score_batch(self, requests: Sequence[ScoreRequest]) -> list[Scored]:
        self.tell("score", requests)
        return [self._score(each) for each in requests]

    def _score(self, asked: ScoreRequest) -> Scored:
        match asked.instruction:
            case "mumble":
                return Scored(None, words="well, hm", error="the answer holds no number", unparsable=True)
            case "exaggerate":
                return Scored(1000.0)
            case "babble":
                return Scored("nine")  # type: ignore[arg-type]
        means = [each.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)) for each in (asked.original, asked.edited)]
        score = sum(abs(a - b) for a, b in zip(*means, strict=True)) / (3 * 25.5)
        return Scored(score, {"difference": score}, f"{score:.1f}: {asked.prompt}")
