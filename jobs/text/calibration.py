"""Calibration after a training: one temperature, fitted on dev, that makes probabilities as sure as they are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import nn

from jobs.text.bilstm import BiLSTM
from jobs.text.learner import Learner
from jobs.text.metrics import measure
from jobs.text.network import Classifier
from jobs.text.ngrams import NgramBag
from jobs.training.factorised import LowRankLinear

Array = np.ndarray[Any, Any]

_BOUNDS = (0.2, 5.0)


def calibrate(task: Learner) -> dict[str, float]:
    """Divides the network's logits by the temperature in place; what a manifest and the metrics say of it.

    {"temperature", "ece_before", "nll_before"}: before it, on dev. The division is put into the last layer's weights,
    so whatever is made of the network has it too; no text changes its class.
    """
    logits = task.logits(task.model, task.dev)
    labels = task.data.dev.labels
    found, before = temperature(logits, labels), measure(logits, labels)
    divide(task.model, found)
    return {"temperature": round(found, 4), "ece_before": before["ece"], "nll_before": before["nll"]}


def temperature(logits: Array, labels: Array) -> float:
    """By which (N, C) logits are to be divided so that the (N,) classes become most likely.

    Guo, Pleiss, Sun, Weinberger 2017, On Calibration of Modern Neural Networks (arXiv 1706.04599), section 4.2.
    1 where no text is taken for another class: the likelihood of those grows with every sharpening, however few they
    are, so that 25 texts without an error made a student sure of what it had never seen.
    """
    if (logits.argmax(axis=1) == labels).all():
        return 1.0
    given = logits.astype(np.float64)
    rows = np.arange(len(labels))

    def nll(power: float) -> float:
        scaled = given * np.exp(-power)
        most = scaled.max(axis=1)
        return float(np.mean(np.log(np.exp(scaled - most[:, None]).sum(axis=1)) + most - scaled[rows, labels]))

    return float(np.exp(minimize_scalar(nll, bounds=tuple(np.log(_BOUNDS)), method="bounded").x))


@torch.no_grad()
def divide(model: nn.Module, temperature: float) -> None:
    """In place, the weights and biases that the logits come from: each network here ends in linear layers, `head`."""
    for part in model.modules():
        if isinstance(part, Classifier | BiLSTM | NgramBag):
            last = part.head.U if isinstance(part.head, LowRankLinear) else part.head
            last.weight /= temperature
            last.bias /= temperature
