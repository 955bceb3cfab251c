"""A training state as a folder (safetensors and JSON), for an attempt after a lost worker to go on from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from jobs.recommend.fit import Recipe, State

_TENSORS, _REST = "state.safetensors", "state.json"


def save(folder: Path, state: State, recipe: Recipe, fingerprint: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": tensor for name, tensor in state.model.items()}
    tensors |= {f"best.{name}": tensor.clone() for name, tensor in state.best.items()}
    moments: dict[int, dict[str, Tensor]] = state.optimizer["state"]
    for number, entry in moments.items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in entry.items()}
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / _TENSORS)
    rest = {
        "epoch": state.epoch,
        "best_epoch": state.best_epoch,
        "history": state.history,
        "groups": state.optimizer["param_groups"],
        "recipe": asdict(recipe),
        "data": fingerprint,
    }
    (folder / _REST).write_text(json.dumps(rest))


def load(folder: Path, recipe: Recipe, fingerprint: str) -> State | None:
    """None when it is of another recipe or other data (its fingerprint), whose training this one cannot continue."""
    rest = json.loads((folder / _REST).read_text())
    if (rest["recipe"], rest["data"]) != (asdict(recipe), fingerprint):
        return None
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    for name, tensor in load_file(folder / _TENSORS).items():
        part, _, key = name.partition(".")
        parts[part][key] = tensor
    moments: dict[int, dict[str, Any]] = {}
    for key, tensor in parts["optimizer"].items():
        number, _, name = key.partition(".")
        moments.setdefault(int(number), {})[name] = tensor
    optimizer = {"state": moments, "param_groups": rest["groups"]}
    return State(rest["epoch"], parts["model"], optimizer, parts["best"], rest["best_epoch"], rest["history"])
