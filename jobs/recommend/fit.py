"""Training a recommender: full-softmax cross entropy, early stopping on validation, exact resume from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.recommend import batches, evaluate, start
from jobs.recommend.histories import Split
from jobs.recommend.model import Recommender, Shape
from jobs.training.memory import Batcher


@dataclass(frozen=True)
class Recipe:
    """How to train. The default takes about 55 s on two cores for MovieLens-100K."""

    architecture: str = "sasrec"
    dim: int = 64
    blocks: int = 1
    heads: int = 1
    length: int = 50
    dropout: float = 0.3
    epochs: int = 12
    patience: int = 4  # epochs without a better validation ndcg@10
    batch: int = 64
    rate: float = 2e-3
    decay: float = 0.0
    masked: float = 0.3
    svd_start: bool = True
    seed: int = 42


QUICK = Recipe(dim=16, blocks=1, length=20, epochs=2)  # seconds: to try the way, not the ranking


@dataclass
class State:
    """All that a resume needs, taken after a whole epoch; each epoch seeds itself from (seed, epoch)."""

    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    best: dict[str, Tensor]
    best_epoch: int
    history: list[dict[str, float]] = field(default_factory=list)  # an entry an epoch


@dataclass(frozen=True)
class Fitted:
    model: Recommender
    validation: dict[str, float]
    history: list[dict[str, float]]
    best_epoch: int


OnEpoch = Callable[[State], None]
OnStep = Callable[[int, int, int], None]  # epoch, step, steps of the epoch


def fit(
    split: Split,
    recipe: Recipe,
    device: torch.device | None = None,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    resume: State | None = None,
    batcher: Callable[[str, torch.device], Batcher] = Batcher,
) -> Fitted:
    device = device or torch.device("cpu")
    shape = Shape(
        recipe.architecture,
        len(split.train.items),
        recipe.dim,
        recipe.blocks,
        recipe.heads,
        recipe.length,
        recipe.dropout,
    )
    torch.manual_seed(recipe.seed)
    model = Recommender(shape)
    if recipe.svd_start and resume is None:
        with torch.no_grad():
            vectors = start.embeddings(split.train, recipe.dim, recipe.seed)
            model.item.weight[: shape.items] = torch.from_numpy(vectors)
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay, betas=(0.9, 0.98))
    state = resume or State(0, {}, {}, {}, 0)
    if resume is not None:
        model.load_state_dict(resume.model)
        optimizer.load_state_dict(resume.optimizer)
    total = batches.steps(split.train, shape, recipe.batch)
    sizes = batcher(f"{shape} training", device)
    scorer = evaluate.network(model, batcher=batcher)

    while state.epoch < recipe.epochs and state.epoch - state.best_epoch < recipe.patience:
        epoch = state.epoch + 1
        torch.manual_seed(recipe.seed * 1_000_003 + epoch)
        random = np.random.default_rng((recipe.seed, epoch))
        model.train()
        losses = []
        for step, batch in enumerate(batches.epoch(split.train, shape, recipe.batch, random, recipe.masked), start=1):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * _pace((epoch - 1 + min(step / total, 1)) / recipe.epochs)
            parts = sizes.accumulate(partial(_backward, model, batch, device), len(batch.rows), optimizer.zero_grad)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(sum(parts))
            if on_step:
                on_step(epoch, min(step, total), total)
        measured = evaluate.on_validation(scorer, split)
        state = _after(state, model, optimizer, epoch, measured | {"loss": float(np.mean(losses))})
        if on_epoch:
            on_epoch(state)

    if state.best:
        model.load_state_dict(state.best)
    model.eval()
    return Fitted(model, state.history[state.best_epoch - 1], state.history, state.best_epoch)


def _after(
    state: State,
    model: Recommender,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    entry: dict[str, float],
) -> State:
    history = [*state.history, entry]
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    better = not state.best or entry["ndcg@10"] > state.history[state.best_epoch - 1]["ndcg@10"]
    best, best_epoch = (weights, epoch) if better else (state.best, state.best_epoch)
    return State(epoch, weights, optimizer.state_dict(), best, best_epoch, history)


def _pace(done: float) -> float:
    """Share of the learning rate: a short linear rise, then half a cosine down to a twentieth."""
    warm = 0.05
    if done < warm:
        return done / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


def _backward(model: Recommender, batch: batches.Batch, device: torch.device, rows: range) -> float:
    """The share of these rows in the batch's loss; their gradients are added to those that are there."""
    part = batch if len(rows) == len(batch.rows) else batch.part(rows)
    if not len(part.target):
        return 0.0
    loss = _loss(model, part, device) * (len(part.target) / len(batch.target))
    loss.backward()
    return loss.item()


def _loss(model: Recommender, batch: batches.Batch, device: torch.device) -> Tensor:
    hidden = model.encode(batch.rows.to(device)).flatten(0, 1)  # (B * L, D)
    weight = model.item.weight[:-1]  # with the row of `pad`, where padded entries of `known` fall
    bias = torch.nn.functional.pad(model.bias, (0, 1))
    logits = torch.nn.functional.linear(hidden[batch.place.to(device)], weight, bias)  # (T, items + 1)
    closed = torch.cat([batch.known, torch.full_like(batch.known[:, :1], model.shape.pad)], dim=1)
    logits.scatter_(1, closed.to(device), -torch.inf)  # in place: a copy of the logits took 5 % of a step
    return torch.nn.functional.cross_entropy(logits, batch.target.to(device))
