"""A trained recommender as a folder: safetensors weights, vocabulary, catalogue and a manifest; nothing is pickled."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from jobs.recommend.data import Catalogue, Dataset
from jobs.recommend.fit import Recipe
from jobs.recommend.model import Recommender, Shape
from jobs.recommend.profile import FeatureTable
from jobs.recommend.ranker import Ranker
from jobs.training import factorised, manifest
from jobs.training.device import prepare
from jobs.training.engine import Fitted

WEIGHTS, ITEMS, CATALOGUE = "model.safetensors", "items.json", "catalogue.json"


@dataclass(frozen=True)
class Loaded:
    """A model ready for inference on its device, with the ids it knows."""

    model: Recommender  # the network alone
    ranker: Ranker  # what recommends: the network, or what it is a part of
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
    manifest.write_json(folder / ITEMS, list(items))
    titles = {item: title for item in items if (title := dataset.catalogue.titles.get(item))}
    features = {item: found for item in items if (found := dataset.catalogue.features.get(item))}
    manifest.write_json(folder / CATALOGUE, {"titles": titles, "features": features})
    facts = {
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
        "ranks": factorised.ranks(fitted.model),
        "metrics": metrics,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
    }
    return manifest.write(folder, facts, ("torch", "numpy", "scipy", "safetensors"))


def load_model(folder: Path, device: torch.device | None = None) -> Loaded:
    try:
        facts = manifest.read(folder)
        model = Recommender(Shape(**facts["shape"]))
        factorised.shape_like(model, facts.get("ranks", {}))
        model.load_state_dict(load_file(folder / WEIGHTS))
        items = tuple(json.loads((folder / ITEMS).read_text()))
        catalogue = Catalogue(**json.loads((folder / CATALOGUE).read_text()))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder.name} holds no usable recommender ({error}): train one again") from error
    prepare(model, device or torch.device("cpu"))
    index = {item: number for number, item in enumerate(items)}
    return Loaded(model, model, items, index, catalogue, FeatureTable(items, catalogue.features), facts)
