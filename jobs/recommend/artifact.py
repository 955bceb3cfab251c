"""A trained recommender as a folder: safetensors weights, vocabulary, catalogue and a manifest; nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from broker.context import Context
from db.artifact import Model
from jobs.recommend.blend import COUNTED, NETWORK, Blend, Counted
from jobs.recommend.data import Catalogue, Dataset
from jobs.recommend.fit import Recipe
from jobs.recommend.gate import Gated, Table
from jobs.recommend.joint import Joint
from jobs.recommend.model import Recommender, Shape
from jobs.recommend.profile import FeatureTable
from jobs.recommend.ranker import Ranker
from jobs.recommend.serving import Served
from jobs.training import factorised, manifest
from jobs.training.device import prepare, resolve
from jobs.training.engine import Fitted

WEIGHTS, ITEMS, CATALOGUE = "model.safetensors", "items.json", "catalogue.json"
GATE = "gate.safetensors"  # of a joint stage that helped
PART = "part-{}.safetensors"  # of a blend, beside the network


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

    def known(self, item_ids: Iterable[str]) -> list[int]:
        """Item indexes of those that it knows, each once, in this order."""
        return [self.index[item] for item in dict.fromkeys(item_ids) if item in self.index]

    @cached_property
    def served(self) -> Served:
        """What makes lists for many users at once; it stays as long as the model."""
        return Served(self.ranker)


@dataclass(frozen=True)
class Blended:
    """A blend to be stored, and how it came about."""

    ranker: Blend  # its parts that count fitted on all that is known
    alone: dict[str, dict[str, float]]  # the validation metrics of each part, chosen or not
    left_out: dict[str, str]  # parts that were not tried, and why


def save_model(
    folder: Path,
    fitted: Fitted,
    recipe: Recipe,
    dataset: Dataset,
    metrics: dict[str, dict[str, float]],
    blended: Blended | None = None,
    joint: Joint | None = None,
) -> dict[str, Any]:
    """Write the folder and return its manifest; `metrics` maps "validation", "test", "popularity" to values."""
    folder.mkdir(parents=True, exist_ok=True)
    items = dataset.histories.items
    _save_network(fitted.model, folder / WEIGHTS)
    manifest.write_json(folder / ITEMS, list(items))
    titles = {item: title for item in items if (title := dataset.catalogue.titles.get(item))}
    features = {item: found for item in items if (found := dataset.catalogue.features.get(item))}
    manifest.write_json(folder / CATALOGUE, {"titles": titles, "features": features})
    facts: dict[str, Any] = {
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
    if joint:
        facts["joint"] = joint.facts
        if joint.ranker:
            save_file(_gate_tensors(joint.ranker), folder / GATE)
    if blended:
        facts["blend"] = _save_blend(folder, blended)
    return manifest.write(folder, facts, ("torch", "numpy", "scipy", "safetensors"))


def _save_network(model: nn.Module, path: Path) -> None:
    save_file({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, path)


def _save_blend(folder: Path, blended: Blended) -> dict[str, Any]:
    networks = {}
    for name, part in blended.ranker.parts.items():
        if isinstance(part, Recommender):
            networks[name] = {"shape": part.shape.json(), "ranks": factorised.ranks(part)}
            if name != NETWORK:
                _save_network(part, folder / PART.format(name))
        elif isinstance(part, Gated):
            pass  # network and gate have their own files
        elif isinstance(part, Counted):
            save_file({key: tensor.contiguous() for key, tensor in part.tensors().items()}, folder / PART.format(name))
        else:
            raise TypeError(f"no artifact can hold the part {name!r} of a blend, a {type(part).__name__}")
    return {
        "fusion": blended.ranker.fusion,
        "weights": blended.ranker.weights,
        "networks": networks,
        "validation": blended.alone,
        "left_out": blended.left_out,
    }


def load_model(folder: Path, device: torch.device | None = None) -> Loaded:
    """Raises ValueError when the folder holds no recommender that this version can use."""
    device = device or torch.device("cpu")
    try:
        facts = manifest.read(folder)
        model = _load_network(folder / WEIGHTS, facts["shape"], facts.get("ranks", {}), device)
        items = tuple(json.loads((folder / ITEMS).read_text()))
        catalogue = Catalogue(**json.loads((folder / CATALOGUE).read_text()))
        ranker: Ranker = _load_gate(folder / GATE, model, device) if facts.get("joint", {}).get("kept") else model
        ranker = _load_blend(folder, facts["blend"], ranker, device) if "blend" in facts else ranker
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder.name} holds no usable recommender ({error}): train one again") from error
    index = {item: number for number, item in enumerate(items)}
    return Loaded(model, ranker, items, index, catalogue, FeatureTable(items, catalogue.features), facts)


def resident(ctx: Context, model: Model) -> Loaded:
    """The version's recommender, loaded once a process. Raises ValueError, and ArtifactError for one that is away."""
    digest = model.artifact_digest
    return ctx.models.get(digest, lambda: load_model(ctx.store.fetch(digest), resolve(ctx.device)))


def _load_network(path: Path, shape: dict[str, Any], ranks: dict[str, int], device: torch.device) -> Recommender:
    model = Recommender(Shape(**shape))
    factorised.shape_like(model, ranks)
    model.load_state_dict(load_file(path))
    prepare(model, device)
    return model


def _gate_tensors(gated: Gated) -> dict[str, Tensor]:
    """What a gate is beside its network: the descriptions in the item space, and its own layer."""
    tensors = {name: tensor for name, tensor in gated.state_dict().items() if not name.startswith("network.")}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _load_gate(path: Path, model: Recommender, device: torch.device) -> Gated:
    tensors = load_file(path)
    gated = Gated(model, Table(tensors["texts.vectors"]))
    gated.load_state_dict({f"network.{name}": tensor for name, tensor in model.state_dict().items()} | tensors)
    prepare(gated, device)
    return gated


def _load_blend(folder: Path, facts: dict[str, Any], model: Ranker, device: torch.device) -> Blend:
    parts: dict[str, Ranker] = {}
    for name in facts["weights"]:
        path = folder / PART.format(name)
        if name == NETWORK:
            parts[name] = model
        elif name in COUNTED:
            parts[name] = COUNTED[name].of(load_file(path), model.items)
        else:
            parts[name] = _load_network(path, **facts["networks"][name], device=device)
    return Blend(parts, facts["weights"], facts["fusion"])
