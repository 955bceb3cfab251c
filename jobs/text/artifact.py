"""A trained classifier as a folder: an encoder in Hugging Face's form, the head, and a manifest; nothing is pickled.

encoder/        config.json, model.safetensors and the tokenizer: AutoModel reads it, and so does another training
head.safetensors, manifest.json
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

from jobs.text import infer
from jobs.text.encoder import bare, quiet
from jobs.text.network import Classifier
from jobs.text.teacher import Teacher
from jobs.text.tokens import tokenize
from jobs.training import factorised, manifest
from jobs.training.engine import Fitted
from jobs.training.memory import Batcher
from jobs.training.task import Plan

KIND = "classify"
ENCODER, WEIGHTS, HEAD = "encoder", "model.safetensors", "head.safetensors"
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "safetensors")


@dataclass(frozen=True)
class Loaded:
    """A classifier ready for inference on its device."""

    model: Classifier
    tokenizer: PreTrainedTokenizerBase
    classes: tuple[str, ...]
    manifest: dict[str, Any]
    device: torch.device

    def logits(self, texts: Sequence[str], sizes: Batcher | None = None) -> np.ndarray[Any, Any]:
        """(N, C) of the texts in their order."""
        asked = self.manifest["reading"]
        made = [asked["prefix"] + text for text in texts]
        tokens = tokenize(self.tokenizer, made, np.zeros(len(made), dtype=np.int64), asked["max_length"])
        return infer.logits(self.model, tokens, sizes or Batcher(self.manifest["architecture"], self.device))


def save_model(
    folder: Path, task: Teacher, fitted: Fitted, plan: Plan, metrics: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Write the folder and return its manifest; `metrics` maps "dev", "test" and others to values."""
    (folder / ENCODER).mkdir(parents=True)
    model = task.model
    encoder: Any = model.whole()
    _save(encoder, folder / ENCODER / WEIGHTS)
    encoder.config.save_pretrained(folder / ENCODER)
    task.encoder.tokenizer.save_pretrained(folder / ENCODER)
    _save(model.head, folder / HEAD)
    facts = {
        "kind": KIND,
        "role": "teacher",
        "architecture": task.name,
        "encoder": task.encoder.name,
        "classes": list(task.data.classes),
        "reading": {"max_length": task.max_length, "prefix": task.prefix},
        "recipe": asdict(plan) | {"freeze": task.freeze, "layer_decay": task.layer_decay},
        "seed": plan.seed,
        "parameters": sum(each.numel() for each in (*encoder.parameters(), *model.head.parameters())),
        "ranks": factorised.ranks(encoder),
        "data": task.data.json(),
        "metrics": metrics,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
    }
    return manifest.write(folder, facts, _LIBRARIES)


def load_model(folder: Path, device: torch.device | None = None) -> Loaded:
    """Raises ValueError for a folder that holds no usable classifier."""
    quiet()
    device = device or torch.device("cpu")
    try:
        facts = manifest.read(folder)
        config = AutoConfig.from_pretrained(folder / ENCODER, local_files_only=True)
        encoder = bare(AutoModel.from_config(config, dtype=torch.float32))  # type: ignore[no-untyped-call]
        factorised.shape_like(encoder, facts["ranks"])
        encoder.load_state_dict(load_file(folder / ENCODER / WEIGHTS))
        tokenizer = AutoTokenizer.from_pretrained(folder / ENCODER, local_files_only=True)
        model = Classifier(encoder, len(facts["classes"]))
        model.head.load_state_dict(load_file(folder / HEAD))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{folder.name} holds no usable classifier ({said}): train one again") from error
    return Loaded(model.to(device).eval(), tokenizer, tuple(facts["classes"]), facts, device)


def _save(module: nn.Module, path: Path) -> None:
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt"})  # which transformers asks for
