"""Opening a classifier in whatever form it is: the torch-free ONNX one, or torch's, which is imported only then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from broker.errors import summary
from jobs.text import runtime
from jobs.training import manifest

if TYPE_CHECKING:
    from jobs.text.artifact import Loaded


class TextModel(Protocol):
    """What every classifier can do, however it is computed."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def manifest(self) -> dict[str, Any]: ...

    def logits(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """(N, C) float32 in the texts' order."""
        ...

    def predict(self, texts: Sequence[str], top_k: int = 1) -> list[dict[str, Any]]:
        """For each text {"label", "probability", "top": the `top_k` best, "truncated": its end was not read}."""
        ...


def open_model(folder: Path, device: str = "cpu") -> TextModel:
    """The classifier in this folder. Raises ValueError: what is wrong with it, or that it needs torch."""
    folder = Path(folder)
    try:
        form = manifest.read(folder).get("form")
    except (OSError, ValueError) as error:
        said = summary(error)
        raise ValueError(f"{folder.name} holds no classifier ({said}): train one") from error
    return runtime.Predictor.load(folder) if form == runtime.FORM else _torch(folder, device)


def made_from(folder: Path) -> str | None:
    """The digest of the artifact that this one was compressed from: what to use where it raises WrongMachine."""
    facts = manifest.read(folder)
    return next((facts[name]["artifact"] for name in sorted(facts) if name.endswith("_from")), None)


@dataclass(frozen=True)
class _Torch:
    """torch's classifier, with answers like the other's."""

    loaded: Loaded

    @property
    def classes(self) -> tuple[str, ...]:
        return self.loaded.classes

    @property
    def manifest(self) -> dict[str, Any]:
        return self.loaded.manifest

    def logits(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        return self.loaded.logits(texts)

    def predict(self, texts: Sequence[str], top_k: int = 1) -> list[dict[str, Any]]:
        if not texts:
            return []
        reader = runtime.Reader.of(self.loaded.tokenizer, self.manifest["reading"])
        return runtime.answers(self.logits(texts), self.classes, reader.rows(texts).cut, top_k)


def _torch(folder: Path, device: str) -> TextModel:
    try:
        from jobs.text import artifact
        from jobs.training.device import resolve
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{folder.name} is a torch model and {error.name} is not installed here: "
            "use its ONNX form (compress.export or compress.quantize), or install gristmill[worker]"
        ) from None
    return _Torch(artifact.load_model(folder, resolve(device)))
