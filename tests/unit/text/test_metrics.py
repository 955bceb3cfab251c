"""Metrics against values computed by hand."""

import numpy as np
import pytest

from jobs.text.metrics import calibration_error, confusion, macro_f1, measure, softmax

# true 0 0 0 1 1 2, predicted 0 0 1 1 0 1
TABLE = np.array([[2, 1, 0], [1, 1, 0], [0, 1, 0]])


def test_confusion_counts_true_classes_in_rows() -> None:
    made = confusion(np.array([0, 0, 1, 1, 0, 1]), np.array([0, 0, 0, 1, 1, 2]), 3)

    assert made.tolist() == TABLE.tolist()


def test_macro_f1_is_the_mean_over_classes_and_zero_for_one_never_hit() -> None:
    # F1: 2*2/(3+3), 2*1/(2+3), 0
    assert macro_f1(TABLE) == pytest.approx((4 / 6 + 2 / 5 + 0) / 3)


def test_calibration_error_weighs_the_gap_of_each_bin() -> None:
    # two at confidence 0.9, one of them right: gap 0.4; two at 0.6, both right: gap 0.4, in another bin
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 1])

    assert calibration_error(chances, labels) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    assert calibration_error(chances, labels, bins=1) == pytest.approx(0.0)  # |0.75 - 0.75|


def test_certain_and_right_is_perfectly_calibrated() -> None:
    assert calibration_error(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])) == 0


def test_measure_puts_them_together_and_survives_large_logits() -> None:
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0], [0.0, 1000.0], [0.0, 0.0]], dtype=np.float32)

    made = measure(logits, np.array([0, 1, 0, 0]))

    assert made["accuracy"] == 0.75
    assert made["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert made["nll"] == pytest.approx((-np.log(1e-12) - np.log(0.5)) / 4)
    assert np.isfinite(softmax(logits)).all()
