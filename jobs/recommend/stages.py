"""Several trainings in one job, one after the other: a checkpoint also holds what the finished ones came to.

A job has one checkpoint. Without this, the second training's would take the place of the first's, and an attempt that
begins anew would train the first again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file

from broker.context import Context
from jobs.training import engine, factorised
from jobs.training.options import Acceleration
from jobs.training.record import Record
from jobs.training.task import Plan, Task

_OF = "stage.txt"  # which training the rest of the checkpoint is of


class Stages:
    """`fit` as jobs.training.engine.fit, by names; a stage that an earlier attempt finished is taken as it was."""

    def __init__(self, options: Acceleration, device: torch.device, ctx: Context | None = None) -> None:
        self._options, self._device, self._ctx = options, device, ctx
        self._done: dict[str, engine.Fitted] = {}

    def fit(self, name: str, task: Task, plan: Plan) -> engine.Fitted:
        ctx = cast(Context, _Stage(self._ctx, name, self._keep)) if self._ctx is not None else None
        fitted = self._finished(name, task) or engine.fit(task, plan, self._options, self._device, ctx)
        self._done[name] = fitted
        return fitted

    def _keep(self, folder: Path) -> None:
        for name, fitted in self._done.items():
            ranks = factorised.ranks(fitted.model)
            facts = {"best_epoch": fitted.best_epoch, "record": fitted.record.json(), "ranks": ranks}
            weights = {key: tensor.cpu().contiguous().clone() for key, tensor in fitted.model.state_dict().items()}
            save_file(weights, folder / f"{name}.done.safetensors")
            (folder / f"{name}.done.json").write_text(json.dumps(facts))

    def _finished(self, name: str, task: Task) -> engine.Fitted | None:
        saved = self._ctx.load_checkpoint() if self._ctx is not None else None
        if saved is None or not (saved / f"{name}.done.json").exists():
            return None
        facts = json.loads((saved / f"{name}.done.json").read_text())
        factorised.shape_like(task.model, facts["ranks"])
        task.model.load_state_dict(load_file(saved / f"{name}.done.safetensors"))
        record = Record.of(facts["record"])
        return engine.Fitted(task.model.to(self._device).eval(), record.epochs, facts["best_epoch"], record)


class _Stage:
    """A job's context as one stage sees it: its own checkpoints, which take the earlier stages along."""

    def __init__(self, ctx: Context, name: str, keep: Callable[[Path], None]) -> None:
        self._ctx, self._name, self._keep = ctx, name, keep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def save_checkpoint(self, folder: Path) -> None:
        self._keep(folder)
        (folder / _OF).write_text(self._name)
        self._ctx.save_checkpoint(folder)

    def load_checkpoint(self) -> Path | None:
        saved = self._ctx.load_checkpoint()
        return saved if saved is not None and (saved / _OF).read_text() == self._name else None
