"""The training loop of every trainer: steps, validation, the best weights, checkpoints, resume, progress, the record.

    fitted = fit(task, Plan(epochs=5, batch=32), params.settings(), resolve(ctx.device), ctx)

What it promises: a run that is killed at any step and goes on from its last checkpoint makes the very steps that an
undisturbed one makes, since each draws its random numbers from (seed, step, process) and each epoch's order from
(seed, epoch). Batches that had to be halved for lack of memory are the exception: dropout draws per part.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import structlog
import torch
from torch import Tensor, nn

from broker.context import Context
from broker.errors import JobError
from jobs.training import auto, checkpoint, factorised, frozen, memory, optimizer, order, profiler
from jobs.training import device as devices
from jobs.training.accelerator import accelerator
from jobs.training.checkpoint import State
from jobs.training.loader import ahead
from jobs.training.losses import Losses
from jobs.training.options import Acceleration
from jobs.training.parallel import ALONE, Seat, helpers
from jobs.training.record import NOT_METRICS, Record
from jobs.training.stabiliser import Stabiliser
from jobs.training.stepper import Ready, Stepper, recomputed
from jobs.training.task import Examples, Plan, Task

log = structlog.get_logger()
_CHECKPOINTS_SHARE = 0.05  # of the time may go into checkpoints, however short their interval


@dataclass(frozen=True)
class Fitted:
    model: nn.Module  # with the weights of the best epoch, in eval mode
    history: list[dict[str, float]]  # the metrics of each epoch
    best_epoch: int
    record: Record

    @property
    def best(self) -> dict[str, float]:
        """The best epoch's metrics."""
        entry = self.history[self.best_epoch - 1]
        return {name: value for name, value in entry.items() if name not in NOT_METRICS}


def fit(task: Task, plan: Plan, options: Acceleration, device: torch.device, ctx: Context | None = None) -> Fitted:
    """Train. With a job's context: progress, checkpoints, resume, handing over, and batches that halve and remember.

    Raises JobError for options that cannot be had here, for data without examples, and when the weights have
    become infinite; OutOfMemory when not even one row fits; and what the context's methods raise.
    """
    return Training(task, plan, options, device, ctx).fit()


class Training:
    """One training, in one process of perhaps several."""

    def __init__(
        self, task: Task, plan: Plan, options: Acceleration, device: torch.device,
        ctx: Context | None = None, seat: Seat = ALONE,
    ) -> None:  # fmt: skip
        self._task, self._plan, self._options, self._device, self._ctx, self._seat = (
            task, plan, options, device, ctx, seat,
        )  # fmt: skip
        asked = options.model_dump(exclude={"checkpoint_s"})
        self._identity = {"task": task.fingerprint(), "plan": asdict(plan), "options": asked}
        batcher = memory.Batcher if ctx is None else partial(memory.batcher, ctx)
        self._sizes = batcher(f"{task.name} training", device)
        self._fits: int | None = None
        self._record = Record(device=devices.kind(device))
        self._epoch, self._step, self._done = 1, 0, 0
        self._best: dict[str, Tensor] = {}
        self._best_ranks: dict[str, int] = {}
        self._best_epoch = 0
        self._losses = Losses(task.name, task.model, plan.rate)
        self._saved_at = time.monotonic()
        self._save_s = 0.0
        self._told = ""
        self._examples: Examples | None = None

    def fit(self) -> Fitted:
        """Train with all processes that the options name; this one leads."""
        if self._options.cache_frozen and not (self._task.has_frozen and self._task.fixed):
            why = "has no frozen layers" if not self._task.has_frozen else "has other examples each epoch"
            raise JobError(f"{self._task.name} {why}: leave cache_frozen out")
        state = self._load()
        if state is None or state.record.device != self._record.device:
            if self._ctx is not None:
                self._ctx.progress(0, 1, stage="choose")
            with self._record.spending("choose"):
                sizes = memory.Batcher(self._sizes.model, self._device)  # it needs more than training
                sizes.fits = self._sizes.size(self._plan.batch)
                self._options, choices = auto.choose(self._task, self._plan, self._options, self._device, sizes)
            self._record.choices = choices
        else:
            self._options = Acceleration.model_validate(state.options)
        with helpers(self._task, self._plan, self._options, self._device, state) as self._seat:
            if self._ctx is not None:
                self._task.batcher = partial(memory.batcher, self._ctx)
            self._run(state)
        model = self._task.model
        if self._best:
            factorised.dense(model)
            factorised.shape_like(model, self._best_ranks)
            model.to(self._device).load_state_dict(self._best)
        model.eval()
        self._record.memory = _peaks(self._device)
        return Fitted(model, self._record.epochs, self._best_epoch, self._record)

    def follow(self, state: State | None) -> None:
        """Train along, as a process that does not lead."""
        self._run(state)

    def _run(self, state: State | None) -> None:
        task, options = self._task, self._options
        groups = self._restore(state) if state else None
        schedule = factorised.Schedule(options.low_rank, options.rank_ratio, self._plan.epochs, seed=self._plan.seed)
        with ExitStack() as block:
            machine = block.enter_context(accelerator(options, self._device, self._seat))
            if options.recompute:
                block.enter_context(recomputed(task.blocks()))
            stepper = Stepper(task, self._plan, options, self._device, machine, self._sizes, self._seat, groups)
            if state:
                stepper.optimizer.load_state_dict(state.optimizer)
                if stepper.scaler is not None and state.scaler:
                    stepper.scaler.load_state_dict(state.scaler)
            elif self._leads:
                self._save(stepper)  # what was chosen, before the first step
            if options.stabiliser != "off":
                stabiliser = Stabiliser(options.stabiliser, seed=self._plan.seed)
                stabiliser.attach(stepper.optimizer, task.model)
                block.callback(self._tell_of, stabiliser)
            self._record.options = options.settings().model_dump()
            with profiler.of(self._record, self._device, self._done) as self._tick:
                while self._epoch <= self._plan.epochs and not self._is_stale():
                    if self._step == 0 and schedule.at_epoch(task.model, stepper.optimizer, self._epoch) is not None:
                        stepper.rewrap()
                        self._best, self._best_epoch = {}, self._epoch - 1  # what is wanted is the best of this form
                    self._run_epoch(stepper)
        if options.low_rank != "off" and not factorised.ranks(task.model):
            said = "no layer was changed: they are too small or their spectra too flat"
            self._record.events.append(f"low_rank={options.low_rank}: {said}")

    def _tell_of(self, stabiliser: Stabiliser) -> None:
        stabiliser.detach()
        did = ", ".join(f"{count} {what}" for what, count in sorted(stabiliser.counts.items()))
        self._record.events.append(
            f"stabiliser, in this attempt: gradients {did or 'none'}; {stabiliser.seconds:.1f} s"
        )

    @property
    def _leads(self) -> bool:
        return self._seat.leads

    def _is_stale(self) -> bool:
        patience = self._plan.patience
        stale = patience is not None and self._epoch - 1 - self._best_epoch >= patience
        return stale or self._seat.agree(self._leads and self._is_perfect(), self._device)

    def _is_perfect(self) -> bool:
        """Validation has stood at its ceiling, so it can tell no later epoch from this one."""
        last, ceiling = self._plan.perfect, self._task.ceiling
        # a form that comes later would be missed
        if last is None or ceiling is None or self._options.low_rank != "off" or len(self._record.epochs) < last:
            return False
        return all(entry[self._task.metric] >= ceiling for entry in self._record.epochs[-last:])

    def _worth(self, metrics: Mapping[str, float]) -> tuple[float, float]:
        """By which epochs are compared, the larger the better."""
        return metrics[self._task.metric], -metrics[self._task.tie] if self._task.tie else 0.0

    def _run_epoch(self, stepper: Stepper) -> None:
        record, plan, task = self._record, self._plan, self._task
        examples = self._examples_of(self._epoch)
        random = np.random.default_rng((plan.seed, self._epoch))
        batches = order.batches(examples.lengths, plan.batch, random, bool(self._options.buckets))
        # Every process takes part in every step: a last batch with fewer rows than there are processes is left out.
        batches = [rows for rows in batches if len(rows) >= self._seat.world]
        if not batches:
            raise JobError(f"{task.name}: there are no examples to train on: give more data")
        coming = ahead(partial(stepper.prepare, examples), batches[self._step :], self._options.loader or 0)
        while True:
            with record.spending("data"):
                ready = next(coming, None)
            if ready is None:
                break
            with record.spending("step"):
                share = optimizer.pace((self._epoch - 1 + (self._step + 1) / len(batches)) / plan.epochs, plan)
                loss, norm, rate = stepper.step(examples, ready, self._done + 1, share)
            self._step, self._done = self._step + 1, self._done + 1
            self._count(ready, loss)
            self._tick(len(batches) * plan.epochs)
            if self._losses.are_due or self._step == len(batches):
                self._losses.read(record, norm, rate)
            if self._leads and self._ctx is not None:
                self._tell(len(batches))
                if self._ctx.stopping or self._is_due():
                    self._losses.read(record, norm, rate)
                    self._save(stepper)
        self._end_epoch(stepper)

    def _end_epoch(self, stepper: Stepper) -> None:
        record, task = self._record, self._task
        metrics: dict[str, float] = {}
        if self._leads:
            with record.spending("validate"):
                task.model.eval()
                metrics = task.validate(task.model)
                task.model.train()
        better = self._leads and (
            not self._best or self._worth(metrics) > self._worth(record.epochs[self._best_epoch - 1])
        )
        if self._seat.agree(better, self._device):
            self._best_epoch = self._epoch
            if self._leads:
                self._best, self._best_ranks = _weights(task.model), factorised.ranks(task.model)
        entry = {"epoch": self._epoch, "seconds": record.seconds, "loss": self._losses.end_epoch()}
        record.epochs.append(entry | metrics)
        if self._leads:
            self._say()
        self._epoch, self._step = self._epoch + 1, 0
        if self._leads and self._ctx is not None:
            self._save(stepper)
            self._ctx.progress((self._epoch - 1) * 100, self._plan.epochs * 100, stage="train", message=self._told)

    def _examples_of(self, epoch: int) -> Examples:
        if self._examples is not None and self._task.fixed:
            return self._examples
        with self._record.spending("data"):
            examples = self._task.epoch(epoch)
        if self._options.cache_frozen:
            with self._record.spending("features"):
                examples = frozen.cached(self._task, examples, self._device, self._tell_features)
        if self._options.on_device:
            examples = examples.to(self._device)
        self._examples = examples
        return examples

    def _count(self, ready: Ready, loss: Tensor) -> None:
        self._losses.add(loss)
        record = self._record
        record.steps = self._done
        record.examples += len(ready.rows)
        record.targets += ready.targets
        record.tokens += sum(batch.tokens for batch in ready.batches)
        record.padding += ready.padding
        if self._sizes.fits != self._fits:
            self._fits = self._sizes.fits
            record.events.append(f"step {self._done}: no more than {self._fits} rows fit into memory at once")

    def _tell(self, steps: int) -> None:
        assert self._ctx is not None
        # hundredths of an epoch, and short of the whole, which only the epoch's own report says
        done = (self._epoch - 1) * 100 + min(99, 100 * self._step // steps)
        self._ctx.progress(done, self._plan.epochs * 100, stage="train", message=self._told)

    def _say(self) -> None:
        if self._record.epochs:
            last, metric = self._record.epochs[-1], self._task.metric
            self._told = f"epoch {last['epoch']:.0f}: validation {metric} {last[metric]:.4f}"

    def _tell_features(self, done: int, total: int) -> None:
        if self._ctx is not None and self._leads:
            self._ctx.progress(done, total, stage="features")

    def _is_due(self) -> bool:
        since = time.monotonic() - self._saved_at
        return since >= max(self._options.checkpoint_s, self._save_s / _CHECKPOINTS_SHARE)

    def _save(self, stepper: Stepper) -> None:
        if self._ctx is None:
            return
        began = time.monotonic()
        with self._record.spending("checkpoint"), self._ctx.store.scratch() as folder:
            checkpoint.save(folder, self._state(stepper), self._identity)
            self._ctx.save_checkpoint(folder)
        self._saved_at = time.monotonic()
        self._save_s = self._saved_at - began

    def _load(self) -> State | None:
        saved = self._ctx.load_checkpoint() if self._ctx is not None else None
        state = checkpoint.load(saved, self._identity) if saved else None
        if state:
            log.info("training_resumed", epoch=state.epoch, step=state.step)
        return state

    def _state(self, stepper: Stepper) -> State:
        named = {id(parameter): name for name, parameter in self._task.model.named_parameters()}
        names = [[named[id(each)] for each in group["params"]] for group in stepper.optimizer.param_groups]
        return State(
            epoch=self._epoch, step=self._step, done=self._done, model=self._task.model.state_dict(),
            optimizer=stepper.optimizer.state_dict(), names=names,
            scaler=dict(stepper.scaler.state_dict()) if stepper.scaler is not None else {},
            ranks=factorised.ranks(self._task.model), best=self._best, best_ranks=self._best_ranks,
            best_epoch=self._best_epoch, options=self._options.settings().model_dump(), record=self._record,
            loss=self._losses.epoch,
        )  # fmt: skip

    def _restore(self, state: State) -> list[dict[str, Any]]:
        """Take on what was saved; returns the optimizer's groups, as they had become."""
        model = self._task.model
        factorised.shape_like(model, state.ranks)
        model.load_state_dict(state.model)
        model.to(self._device)
        self._epoch, self._step, self._done = state.epoch, state.step, state.done
        self._best, self._best_ranks, self._best_epoch = state.best, state.best_ranks, state.best_epoch
        self._losses.epoch = state.loss
        choices, device = self._record.choices, self._record.device
        self._record = state.record
        self._record.device = device
        self._record.choices += choices  # of another kind of device
        if self._done:
            self._record.resumed.append(self._done)
        self._say()
        named = dict(model.named_parameters())
        return [
            {key: value for key, value in group.items() if key != "params"}
            | {"params": [named[name] for name in names]}
            for group, names in zip(state.optimizer["param_groups"], state.names, strict=True)
        ]


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def _peaks(device: torch.device) -> dict[str, float]:
    """MB. The host's is of the process since it began, which may have run other jobs before."""
    peaks = {"host_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if device.type == "cuda":
        peaks["device_peak"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peaks
