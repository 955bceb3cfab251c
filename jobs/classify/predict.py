"""Answers predictions that wait together: one forward pass over all their texts, by the version that is in use now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.context import Context
from broker.errors import JobError
from db.store import ArtifactError, NoSpace
from jobs.classify.serve import named, opened
from jobs.classify.tasks import Predict
from jobs.text.models import TextModel


def predict(ctx: Context, many: Sequence[Predict]) -> list[Any]:
    """For each the answer of its text, or a list of those of its texts. They ask for one model.

    The registry is asked for every batch: a promotion holds from the next one on, and both versions stay resident.
    """
    try:
        version, model = _in_use(ctx, many[0].model)
    except JobError as error:  # nobody's own fault: that it is tried alone would change nothing
        return [error] * len(many)
    answers = iter(model.predict([text for each in many for text in each.asked], max(each.top_k for each in many)))
    return [_answer(each, [next(answers) for _ in each.asked], version) for each in many]


def _answer(params: Predict, found: list[dict[str, Any]], version: int) -> Any:
    made = [each | {"top": each["top"][: params.top_k], "model_version": version} for each in found]
    return made if params.texts is not None else made[0]


def _in_use(ctx: Context, name: str) -> tuple[int, TextModel]:
    found = named(name)
    digest = found.artifact_digest
    try:
        return found.version, ctx.models.get(digest, lambda: opened(ctx.store, digest, ctx.device))
    except NoSpace:  # there may be room at another attempt
        raise
    except (ArtifactError, ValueError) as error:
        raise JobError(f"model {name!r}, version {found.version}: {error}") from error
