"""Structured pruning: whole layers, attention heads and feed-forward neurons go, and with them their arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.text.narrow import narrowed
from jobs.text.network import Classifier
from jobs.text.tokens import TextBatch

# Where families of encoders keep a layer's parts: query, key and value, what follows them, and the two of the FFN.
_PARTS = (
    (("attention.self.query", "attention.self.key", "attention.self.value"), "attention.output.dense",
     "intermediate.dense", "output.dense"),
    (("attention.q_lin", "attention.k_lin", "attention.v_lin"), "attention.out_lin", "ffn.lin1", "ffn.lin2"),
)  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """What goes, as shares of what is there; as many in each layer, so that one configuration describes them all."""

    layers: float = 0.0
    heads: float = 0.0
    ffn: float = 0.0

    def __str__(self) -> str:
        said = [f"{share:.0%} of the {what}" for what, share in asdict(self).items() if share]
        return ", ".join(said).replace("the ffn", "the FFN neurons") or "nothing"


def cut(model: Classifier, wanted: Cut, batches: Sequence[TextBatch]) -> dict[str, int]:
    """Prunes the model in place, and returns how many layers, heads and neurons each are left.

    Layers: those that change their input least. Heads and neurons: the least important by what the loss would change
    to first order. Raises ValueError for an architecture whose parts are not known, or if nothing would be left.
    """
    config: Any = model.upper.config
    if wanted.layers:
        _drop_layers(model, config, round(wanted.layers * config.num_hidden_layers), batches)
    if wanted.heads or wanted.ffn:
        parts = [_parts(layer) for layer in _layers(model)]
        size = config.hidden_size // config.num_attention_heads
        groups = {out: size for _, out, _, _ in parts} | {second: 1 for _, _, _, second in parts}
        important = importance(model, groups, batches)
        for projections, out, first, second in parts:
            heads = _kept(important[out], wanted.heads)
            channels = (heads[:, None] * size + torch.arange(size, device=heads.device)).flatten()
            neurons = _kept(important[second], wanted.ffn)
            if wanted.heads:
                for each in projections:
                    _put(model, each, narrowed(each, channels, 0))
                _put(model, out, narrowed(out, channels, 1))
            if wanted.ffn:
                _put(model, first, narrowed(first, neurons, 0))
                _put(model, second, narrowed(second, neurons, 1))
        if wanted.ffn:
            setattr(config, "intermediate_size" if hasattr(config, "intermediate_size") else "hidden_dim", len(neurons))
    return sizes(model)


def sizes(model: Classifier) -> dict[str, int]:
    """{"layers", "heads", "ffn"}: how many, the latter two in each layer; only "layers" of an unknown architecture."""
    config: Any = model.upper.config
    found = {"layers": config.num_hidden_layers}
    try:
        _, out, first, _ = _parts(_layers(model)[0])
    except ValueError:
        return found
    size = config.hidden_size // config.num_attention_heads
    return found | {"heads": out.in_features // size, "ffn": first.out_features}


def importance(
    model: nn.Module, groups: Mapping[nn.Linear, int], batches: Sequence[TextBatch]
) -> dict[nn.Linear, Tensor]:
    """(inputs / size,) of each linear layer: how much the loss changes to first order when a group of inputs goes.

    E |sum over tokens and the group's inputs of x dL/dx|: for heads Michel, Levy, Neubig 2019, Are Sixteen Heads Really
    Better than One, section 4.1; for neurons Molchanov et al. 2019, Importance Estimation for Neural Network Pruning,
    equation 8. `groups`: the size of a group by layer, a head's width or 1.
    """
    totals = {layer: torch.zeros(layer.in_features // size) for layer, size in groups.items()}
    given: dict[nn.Linear, Tensor] = {}

    def keep(layer: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        inputs[0].retain_grad()
        given[layer] = inputs[0]

    model.eval()
    with _hooked([layer.register_forward_pre_hook(keep) for layer in groups]), torch.enable_grad():
        for batch in batches:
            functional.cross_entropy(model(batch.ids, batch.mask), batch.labels, reduction="sum").backward()
            for layer, x in given.items():
                assert x.grad is not None  # for the type checker
                per_text = (x * x.grad).detach().sum(dim=1)  # (B, inputs)
                grouped = per_text.reshape(len(per_text), -1, groups[layer]).sum(dim=2)
                totals[layer] += grouped.abs().sum(dim=0).cpu()
            model.zero_grad()
    return totals


def influence(model: Classifier, batches: Sequence[TextBatch]) -> list[float]:
    """Of each layer 1 - the mean cosine of its input and output, over the tokens: what changes little can go.

    Men et al. 2024, ShortGPT: Layers in Large Language Models are More Redundant Than You Expect, section 2.2.
    """
    layers = _layers(model)
    totals, count = [0.0] * len(layers), 0
    mask = torch.empty(0)

    def keep(number: int, given: Tensor, made: Any) -> None:
        after = made[0] if isinstance(made, tuple) else made  # (B, L, D)
        cosine = functional.cosine_similarity(given, after, dim=2)
        totals[number] += float(((1 - cosine) * mask).sum())

    hooks = [
        layer.register_forward_hook(lambda _, inputs, made, number=number: keep(number, inputs[0], made))
        for number, layer in enumerate(layers)
    ]
    model.eval()
    with _hooked(hooks), torch.inference_mode():
        for batch in batches:
            mask = batch.mask
            count += int(mask.sum())
            model(batch.ids, mask)
    return [total / max(1, count) for total in totals]


def _drop_layers(model: Classifier, config: Any, count: int, batches: Sequence[TextBatch]) -> None:
    layers = _layers(model)
    if count >= len(layers):
        raise ValueError(f"all {len(layers)} layers would go: cut a smaller share")
    scores = influence(model, batches)
    gone = set(sorted(range(len(layers)), key=scores.__getitem__)[:count])
    left = nn.ModuleList(layer for number, layer in enumerate(layers) if number not in gone)
    model.upper.set_submodule(model.path, left)
    config.num_hidden_layers = len(left)


def _layers(model: Classifier) -> nn.ModuleList:
    if model.layers is None:
        raise ValueError(f"{type(model.upper).__name__} has no list of layers: its structure cannot be pruned")
    return model.layers


def _parts(layer: nn.Module) -> tuple[list[nn.Linear], nn.Linear, nn.Linear, nn.Linear]:
    for projections, *others in _PARTS:
        try:
            found = [layer.get_submodule(name) for name in (*projections, *others)]
        except AttributeError:
            continue
        if all(isinstance(each, nn.Linear) for each in found):
            return found[:3], found[3], found[4], found[5]
    raise ValueError(f"the heads and neurons of {type(layer).__name__} are not known: cut layers instead")


def _kept(important: Tensor, share: float) -> Tensor:
    """The indexes that stay, in their order; at least one."""
    count = max(1, len(important) - round(share * len(important)))
    return important.topk(count).indices.sort().values


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    model.set_submodule(next(name for name, module in model.named_modules() if module is old), new)


@contextmanager
def _hooked(hooks: Sequence[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
