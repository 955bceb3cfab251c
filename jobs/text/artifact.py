"""A trained classifier as a folder: weights, tokenizer and a manifest; nothing is pickled.

A transformer:  encoder/ with config.json, model.safetensors and the tokenizer, which AutoModel reads, and so does
                another training; head.safetensors
Other students: model.safetensors, tokenizer.json, tokenizer_config.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from broker.errors import summary
from jobs.text import infer, narrow, students
from jobs.text.data import Split
from jobs.text.encoder import bare, quiet
from jobs.text.learner import Learner
from jobs.text.network import Classifier
from jobs.text.tokens import Tokens, tokenize
from jobs.training import factorised, manifest
from jobs.training.engine import Fitted
from jobs.training.memory import Batcher
from jobs.training.task import Plan

KIND, TORCH = "classify", "torch"
ENCODER, WEIGHTS, HEAD = "encoder", "model.safetensors", "head.safetensors"
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "safetensors")


@dataclass(frozen=True)
class Loaded:
    """A classifier ready for inference on its device."""

    model: nn.Module  # a Classifier, or a student's network
    tokenizer: PreTrainedTokenizerBase
    classes: tuple[str, ...]
    manifest: dict[str, Any]
    device: torch.device

    def tokens(self, split: Split) -> Tokens:
        asked = self.manifest["reading"]
        return tokenize(self.tokenizer, split.texts, split.labels, asked["max_length"], asked["prefix"])

    def logits(self, texts: Sequence[str], sizes: Batcher | None = None) -> np.ndarray[Any, Any]:
        """(N, C) of the texts in their order."""
        tokens = self.tokens(Split(tuple(texts), np.zeros(len(texts), dtype=np.int64)))
        return infer.logits(self.model, tokens, sizes or Batcher(self.manifest["architecture"], self.device))


def save_model(
    folder: Path, task: Learner, fitted: Fitted, plan: Plan, metrics: dict[str, dict[str, Any]], **facts: Any
) -> dict[str, Any]:
    """Write the folder and return its manifest.

    `metrics` maps "dev", "test" and others to values; `facts` are further JSON values for the manifest.
    """
    model = task.model
    if isinstance(model, Classifier):
        (folder / ENCODER).mkdir(parents=True)
        encoder: Any = model.whole()
        _save(encoder, folder / ENCODER / WEIGHTS)
        encoder.config.save_pretrained(folder / ENCODER)
        task.tokenizer.save_pretrained(folder / ENCODER)
        _save(model.head, folder / HEAD)
        parts: tuple[nn.Module, ...] = (encoder, model.head)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        _save(model, folder / WEIGHTS)
        task.tokenizer.save_pretrained(folder)
        parts = (model,)
    return manifest.write(folder, {
        "kind": KIND,
        "form": TORCH,
        "role": task.role,
        "network": task.network,
        "architecture": task.name,
        "classes": list(task.data.classes),
        "reading": {"max_length": task.max_length, "prefix": task.prefix},
        "recipe": asdict(plan) | task.recipe(),
        "seed": plan.seed,
        "parameters": sum(each.numel() for part in parts for each in part.parameters()),
        "ranks": factorised.ranks(parts[0]),
        "data": task.data.json(),
        "metrics": metrics,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        **facts,
    }, _LIBRARIES)  # fmt: skip


def load_model(folder: Path, device: torch.device | None = None) -> Loaded:
    """Raises ValueError for a folder that holds no usable classifier of torch's form."""
    quiet()
    device = device or torch.device("cpu")
    try:
        facts = manifest.read(folder)
        if facts.get("form", TORCH) != TORCH:
            raise ValueError(f"its form is {facts['form']!r}")
        network = facts.get("network", {"kind": "transformer"})  # which older ones do not say
        load = _transformer if network["kind"] == "transformer" else _student
        model, tokenizer = load(folder, facts, network)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        said = summary(error)
        raise ValueError(f"{folder.name} holds no usable classifier ({said}): train one again") from error
    return Loaded(model.to(device).eval(), tokenizer, tuple(facts["classes"]), facts, device)


def _transformer(folder: Path, facts: dict[str, Any], network: dict[str, Any]) -> tuple[nn.Module, Any]:
    config = AutoConfig.from_pretrained(folder / ENCODER, local_files_only=True)
    encoder = bare(AutoModel.from_config(config, dtype=torch.float32))  # type: ignore[no-untyped-call]
    factorised.shape_like(encoder, facts["ranks"])
    weights = load_file(folder / ENCODER / WEIGHTS)
    narrow.shape_like(encoder, weights)
    encoder.load_state_dict(weights)
    model = Classifier(encoder, len(facts["classes"]))
    model.head.load_state_dict(load_file(folder / HEAD))
    return model, AutoTokenizer.from_pretrained(folder / ENCODER, local_files_only=True)


def _student(folder: Path, facts: dict[str, Any], network: dict[str, Any]) -> tuple[nn.Module, Any]:
    model = students.network(network, len(facts["classes"]))
    factorised.shape_like(model, facts["ranks"])
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _save(module: nn.Module, path: Path) -> None:
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt"})  # which transformers asks for
