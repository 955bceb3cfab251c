"""All that a training needs to go on, as a folder of safetensors and JSON: on another machine, at any step."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from jobs.training.record import Record

_TENSORS, _REST = "state.safetensors", "state.json"


@dataclass
class State:
    """After `step` steps of `epoch`.

    The random numbers of a step are drawn from (seed, step, process), and an epoch's order from (seed, epoch), so the
    position is the random state, however many devices go on from it.
    """

    epoch: int  # 1 the first
    step: int  # of this epoch, done
    done: int  # steps in all
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    names: list[list[str]]  # of the parameters of each group of the optimizer
    scaler: dict[str, Any]
    ranks: dict[str, int]  # of layers that have become low-rank
    best: dict[str, Tensor]
    best_ranks: dict[str, int]
    best_epoch: int
    options: dict[str, Any]  # in force
    record: Record = field(default_factory=Record)
    loss: list[float] = field(default_factory=lambda: [0.0, 0.0])  # of this epoch so far: sum, steps


def save(folder: Path, state: State, identity: dict[str, Any]) -> None:
    """Write it; `identity` says which training it is of."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": tensor for name, tensor in state.model.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    rest = {name: value for name, value in vars(state).items() if name not in ("model", "best", "optimizer", "record")}
    plain: dict[str, dict[str, Any]] = {}
    for number, entry in state.optimizer["state"].items():
        for name, value in entry.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
            else:
                plain.setdefault(str(number), {})[name] = value
    rest |= {"plain": plain, "groups": state.optimizer["param_groups"], "record": state.record.json()}
    # clone: safetensors refuses tensors that share memory, as tied weights and the best epoch's do
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, folder / _TENSORS)
    (folder / _REST).write_text(json.dumps({"identity": identity, **rest}))


def load(folder: Path, identity: dict[str, Any]) -> State | None:
    """None when it is of another training: other data, another plan, other options."""
    rest = json.loads((folder / _REST).read_text())
    if rest.pop("identity") != json.loads(json.dumps(identity)):
        return None
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    for name, tensor in load_file(folder / _TENSORS).items():
        part, _, key = name.partition(".")
        parts[part][key] = tensor
    moments: dict[int, dict[str, Any]] = {int(number): dict(entry) for number, entry in rest.pop("plain").items()}
    for key, tensor in parts["optimizer"].items():
        number, _, name = key.partition(".")
        moments.setdefault(int(number), {})[name] = tensor
    optimizer = {"state": moments, "param_groups": rest.pop("groups")}
    record = Record.of(rest.pop("record"))
    return State(model=parts["model"], best=parts["best"], optimizer=optimizer, record=record, **rest)
