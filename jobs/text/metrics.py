"""Metrics of a classifier, from its probabilities and the true classes."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_BINS = 15


def measure(logits: Array, labels: Array) -> dict[str, float]:
    """Accuracy, macro-F1, expected calibration error and mean negative log-likelihood of (N, C) logits, (N,) labels."""
    chances = softmax(logits)
    table = confusion(chances.argmax(axis=1), labels, logits.shape[1])
    right = np.take_along_axis(chances, labels[:, None], axis=1)[:, 0]
    return {
        "accuracy": float(np.trace(table) / max(1, table.sum())),
        "macro_f1": macro_f1(table),
        "ece": calibration_error(chances, labels),
        "nll": float(-np.log(np.maximum(right, 1e-12)).mean()),
    }


def measured(logits: Array, labels: Array) -> dict[str, Any]:
    """`measure`, the confusion matrix and how many texts: what the registry keeps of a split."""
    table = confusion(logits.argmax(axis=1), labels, logits.shape[1])
    return measure(logits, labels) | {"confusion": table.tolist(), "texts": len(labels)}


def softmax(logits: Array) -> Array:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def confusion(predicted: Array, labels: Array, classes: int) -> Array:
    """(C, C) how many of each true class (row) were taken for each class (column)."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def macro_f1(table: Array) -> float:
    """Mean of the classes' F1 = 2 TP / (2 TP + FP + FN); of a class neither there nor predicted it is 0."""
    hits = np.diag(table)
    return float(np.mean(2 * hits / np.maximum(1, table.sum(axis=0) + table.sum(axis=1))))


def calibration_error(chances: Array, labels: Array, bins: int = _BINS) -> float:
    """Expected calibration error: |accuracy - confidence| in bins of equal width, weighted by their sizes.

    Guo, Pleiss, Sun, Weinberger 2017, On Calibration of Modern Neural Networks, equation 3; bins are (low, high].
    """
    confidence = chances.max(axis=1)
    hits = chances.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=hits - confidence, minlength=bins)  # sum over each bin
    return float(np.abs(gaps).sum() / max(1, len(labels)))
