"""The two stages of an evaluation, each a job over some of its pairs: edit by one model, score by another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from broker.context import Context
from broker.errors import JobError
from db import edit
from db.edit import EditPair, EditRun
from db.job import Job
from jobs.edit import images, kept
from jobs.edit.adapters import resolve
from jobs.edit.adapters.base import Editor, EditRequest, EditResult, Scored, Scorer, ScoreRequest
from jobs.edit.config import Config
from jobs.edit.stage import Done, Stage
from jobs.edit.tasks import Batch

_WORDS_CHARACTERS = 10_000


def edit_batch(ctx: Context, params: Batch) -> dict[str, Any]:
    """Edit what is left to edit of a batch; in a run of one stage, score it as well."""
    run, config, charged = _read(ctx, params)
    stages: list[Stage[Any, Any, Any]] = [_Edit(ctx, run, config, charged)]
    return _run(ctx, params, stages + [_Score(ctx, run, config, charged)] * (config.stages == "one"))


def score_batch(ctx: Context, params: Batch) -> dict[str, Any]:
    """Score what is edited of a batch."""
    return _run(ctx, params, [_Score(ctx, *_read(ctx, params))])


def _read(ctx: Context, params: Batch) -> tuple[EditRun, Config, int]:
    """The run, and how many attempts are charged to this job, with this one."""
    with ctx.session() as session:
        run = edit.run(session, params.run)
        job = session.get_one(Job, ctx.job_id)
        charged = job.attempt - job.spared
    if run is None:
        raise JobError(f"there is no run {params.run}: submit edit.evaluate, which makes it and its batches")
    return run, Config.model_validate(run.config), charged


def _run(ctx: Context, params: Batch, stages: Sequence[Stage[Any, Any, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {"batch": params.batch}
    for number, stage in enumerate(stages):
        with ctx.session() as session:
            left = edit.waiting(session, params.run, params.batch, stage.name)
        if left:  # else without loading a model: nothing may be left, by an earlier attempt or evaluation
            stage.work(left, told, last=number == len(stages) - 1)
            stage.images.forget()
    return told


class _Edit(Stage[Editor, EditRequest, EditResult]):
    name, role = "edit", "editor"

    def adapter(self) -> Editor:
        return resolve.editor(self.spec, self.ctx.device)

    def request(self, pair: EditPair) -> EditRequest:
        system, prompt = self.config.filled("edit", pair)
        return EditRequest(
            image=self.images.open(pair.original or {}),
            instruction=pair.instruction, description=pair.description, seed=self.config.seed_of(pair),
            system=system, prompt=prompt,
        )  # fmt: skip

    def ask(self, model: Editor) -> Callable[[Sequence[EditRequest]], list[EditResult]]:
        return model.edit_batch

    def checked(self, answer: EditResult) -> EditResult:
        return answer if answer.image is None else replace(answer, image=answer.image.convert("RGB"))

    def failed(self, reason: str) -> EditResult:
        return EditResult(None, reason)

    def row(self, done: Done[EditResult], folder: Path) -> dict[str, Any]:
        image, error = done.answer.image, done.answer.error
        if image is None:
            return {"edited": None, "error": error or "the editor gave no image", "seconds": done.seconds}
        file = f"{done.pair.position:06}.png"
        (folder / file).write_bytes(images.encode(image))
        return {"edited": kept.placed(folder, file, image), "error": None, "seconds": done.seconds}

    def put(self, session: Session, rows: Sequence[dict[str, Any]]) -> None:
        edit.put_edits(session, self.run.id, rows)


class _Score(Stage[Scorer, ScoreRequest, Scored]):
    name, role = "score", "scorer"

    def adapter(self) -> Scorer:
        return resolve.scorer(self.spec, self.ctx.device)

    def request(self, pair: EditPair) -> ScoreRequest:
        system, prompt = self.config.filled("score", pair)
        return ScoreRequest(
            original=self.images.open(pair.original or {}),
            edited=self.images.open(pair.edited or {}),
            instruction=pair.instruction, description=pair.description, system=system, prompt=prompt,
            seed=self.config.seed_of(pair),
        )  # fmt: skip

    def ask(self, model: Scorer) -> Callable[[Sequence[ScoreRequest]], list[Scored]]:
        return model.score_batch

    def checked(self, answer: Scored) -> Scored:
        score = None if answer.score is None else float(answer.score)  # NumPy's numbers are no JSON
        parts = {str(name): float(value) for name, value in answer.parts.items()}
        return replace(answer, score=score, parts=parts, words=str(answer.words))

    def failed(self, reason: str) -> Scored:
        return Scored(None, error=reason)

    def row(self, done: Done[Scored], folder: Path) -> dict[str, Any]:
        answer, (low, high) = done.answer, self.run.scorer["scale"]
        score, error = answer.score, answer.error
        if score is not None and not low <= score <= high:  # nor is NaN
            score, error = None, f"unparsable: {score} is not between {low:g} and {high:g}"
        elif score is None and answer.unparsable:
            error = f"unparsable: {error or 'the answer holds no score'}"
        elif score is None:
            error = error or "the scorer gave no score"
        parts = {name: value for name, value in answer.parts.items() if math.isfinite(value)}
        words = answer.words[:_WORDS_CHARACTERS]
        return {"score": score, "parts": parts, "words": words, "error": error, "seconds": done.seconds}

    def put(self, session: Session, rows: Sequence[dict[str, Any]]) -> None:
        edit.put_scores(session, self.run.id, rows)
