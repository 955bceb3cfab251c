"""What every editor and every scorer is: a model that can be loaded, taken out of memory and asked in batches."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec

from PIL.Image import Image
from pydantic import ValidationError, validate_call

from broker.errors import JobError
from db.settings import redact

P = ParamSpec("P")


class AdapterError(JobError):
    """An adapter's configuration is wrong for good; the message is one line with the value and the remedy."""


@dataclass(frozen=True)
class EditRequest:
    image: Image  # RGB
    instruction: str
    description: str
    seed: int
    system: str
    prompt: str  # the user's template, filled in


@dataclass(frozen=True)
class EditResult:
    """An image, or else the reason why there is none."""

    image: Image | None  # RGB
    error: str | None = None


@dataclass(frozen=True)
class ScoreRequest:
    original: Image  # RGB
    edited: Image  # RGB
    instruction: str
    description: str
    system: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class Scored:
    """A score within the scorer's scale, or None with the reason: what is unparsable or failed is never a 0."""

    score: float | None
    parts: dict[str, float] = field(default_factory=dict)
    words: str = ""
    error: str | None = None
    unparsable: bool = False


class Adapter:
    """A model behind a run.

    Constructors take keyword parameters only, those of the run's configuration; they are cheap (nothing is loaded, no
    heavy library imported) and raise AdapterError for wrong ones: `@checked` sees to types and ranges. One thread uses
    an adapter. The calls come in this order: `load`, then batches and `offload` / `restore`, then `unload`; after that
    it may be loaded again.
    """

    name = "adapter"  # for reports: what it is, with its model's name
    device = "auto"  # the worker's; set before `load`, unless the parameters name another
    parameters: dict[str, Any] = {}  # as configured, for the record

    @property
    def memory_bytes(self) -> int:
        """What it needs on the device once it is loaded, work on a batch included."""
        return 0

    def load(self) -> None:
        """Make it ready. Raises AdapterError for what no other attempt can mend."""

    def unload(self) -> None:
        """Free all of it, on the device and on the host."""

    def offload(self) -> bool:
        """Move it to the host's memory: True if it did, and the device's is free."""
        return False

    def restore(self) -> None:
        """Back to the device, after `offload`."""

    def identity(self) -> dict[str, Any]:
        """What a reader needs to know which model this was: JSON, without secrets. Needs no loaded model."""
        own = type(self)
        return {"class": f"{own.__module__}.{own.__qualname__}", "name": self.name, "parameters": self.parameters}


class Editor(Adapter):
    """Makes another image of an image, as an instruction says."""

    def edit_batch(self, requests: Sequence[EditRequest]) -> list[EditResult]:
        """One result per request, in their order.

        A request that fails has an error and the others go on; an exception may be anybody's fault, and each request
        of the batch is then tried alone. A result does not depend on who else is in the batch.
        """
        raise NotImplementedError


class Scorer(Adapter):
    """Says how well an image was edited."""

    scale: tuple[float, float] = (0.0, 10.0)

    def score_batch(self, requests: Sequence[ScoreRequest]) -> list[Scored]:
        """One answer per request, in their order; as for `Editor.edit_batch`."""
        raise NotImplementedError


def checked(init: Callable[P, None]) -> Callable[P, None]:
    """For a constructor of annotated keyword parameters: refuses wrong types and ranges with an AdapterError."""
    call = validate_call(init)
    names = [each for each in inspect.signature(init).parameters if each != "self"]

    @functools.wraps(init)
    def construct(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            call(*args, **kwargs)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            if first["type"] in ("missing_argument", "missing_keyword_only_argument"):
                problem = f"parameter {where!r} is missing"
            elif first["type"] == "unexpected_keyword_argument":
                problem = f"unknown parameter {where!r}"
            else:
                given = redact(repr(first["input"])).partition("?")[0]  # a URL's query may hold a key
                problem = f"{where}={given[:100]}: {first['msg']}"
            raise AdapterError(f"{type(args[0]).__name__}: {problem}: it takes {', '.join(names)}") from None

    return construct
