"""Text classifiers: teachers, students and their predictions."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.text.models import TextModel

__all__ = ["load"]


def load(model: str | PathLike[str], device: str = "cpu") -> TextModel:
    """A classifier, without the queue: `load("student-news").predict(["…"], top_k=3)`.

    model: the folder of an artifact, else a name in the registry: the version in use, or that of "name@version".
    Raises ValueError for a folder that holds no usable classifier, JobError for a name that stands for none.
    """
    if Path(model).is_dir():  # without what the registry takes: half of the time to the first answer
        from jobs.text.models import open_model

        return open_model(Path(model), device)
    from jobs.classify.serve import load

    return load(str(model), device)
