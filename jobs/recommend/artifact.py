"""A trained recommender as a folder: safetensors weights, vocabulary, catalogue and a manifest; nothing is pickled."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from jobs.recommend.data import Catalogue, Dataset
from jobs.recommend.fit import Recipe
from jobs.recommend.model import Recommender, Shape
from jobs.recommend.profile import FeatureTable
from jobs.training.device import prepare
from jobs.training.engine import Fitted

WEIGHTS, ITEMS, CATALOGUE, MANIFEST = "model.safetensors", "items.json", "catalogue.json", "manifest.json"


@dataclass(frozen=True)
class Loaded:
    """A model ready for inference on its device, with the ids it knows."""

    model: Recommender
    items: tuple[str, ...]
    index: dict[str, int]
    catalogue: Catalogue
    table: FeatureTable
    manifest: dict[str, Any]


def save_model(
    folder: Path, fitted: Fitted, recipe: Recipe, dataset: Dataset, metrics: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Write the folder and return its manifest; `metrics` maps "validation", "test", "popularity" to values."""
    folder.mkdir(parents=True, exist_ok=True)
    items = dataset.histories.items
    weights = {name: tensor.cpu().contiguous() for name, tensor in fitted.model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    _write(folder / ITEMS, list(items))
    titles = {item: title for item in items if (title := dataset.catalogue.titles.get(item))}
    features = {item: found for item in items if (found := dataset.catalogue.features.get(item))}
    _write(folder / CATALOGUE, {"titles": titles, "features": features})
    manifest = {
        "kind": "recommend",
        "architecture": recipe.architecture,
        "shape": fitted.model.shape.json(),
        "recipe": asdict(recipe),
        "seed": recipe.seed,
        "data": {
            "name": dataset.name,
            "users": len(dataset.histories),
            "items": len(items),
            "events": len(dataset.histories.flat),
            "sha256": dataset.histories.fingerprint(),
            "split": "leave one out by time: last item test, the one before it validation",
        },
        "metrics": metrics,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy", "safetensors")},
        "files": {name: _sha256(folder / name) for name in (WEIGHTS, ITEMS, CATALOGUE)},
    }
    _write(folder / MANIFEST, manifest)
    return manifest


def load_model(folder: Path, device: torch.device | None = None) -> Loaded:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        model = Recommender(Shape(**manifest["shape"]))
        model.load_state_dict(load_file(folder / WEIGHTS))
        items = tuple(json.loads((folder / ITEMS).read_text()))
        catalogue = Catalogue(**json.loads((folder / CATALOGUE).read_text()))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{folder.name} holds no usable recommender ({error}): train one again") from error
    prepare(model, device or torch.device("cpu"))
    index = {item: number for number, item in enumerate(items)}
    return Loaded(model, items, index, catalogue, FeatureTable(items, catalogue.features), manifest)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, sort_keys=True, ensure_ascii=False), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
