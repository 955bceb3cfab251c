"""The temperature: found where it is known, and put into each kind of network without changing a class."""

import numpy as np
import pytest
import torch

from jobs.text import calibration, students
from jobs.text.distil import Distillation
from jobs.text.metrics import measure, softmax
from tests.unit.text import tiny


def test_the_temperature_that_made_logits_too_sure_is_found_again() -> None:
    random = np.random.default_rng(0)
    right = random.normal(0, 1.5, (20_000, 4))  # whose probabilities are those of the labels
    labels = (softmax(right).cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)

    assert calibration.temperature(3 * right, labels) == pytest.approx(3, rel=0.05)
    assert calibration.temperature(right / 3, labels) == pytest.approx(1 / 3, rel=0.05)


def test_a_dev_without_an_error_makes_nothing_surer() -> None:
    assert calibration.temperature(np.eye(3) * 2, np.arange(3)) == 1
    assert calibration.temperature(np.eye(3) * 2, np.array([0, 1, 1])) != 1


@pytest.mark.parametrize("kind", ["bilstm", "ngrams", "ngrams+bilstm", "transformer"])
def test_every_kind_of_network_takes_it_into_its_weights_and_no_text_changes_its_class(kind: str) -> None:
    data = tiny.dataset(train=20, dev=64)
    task = Distillation(data, students.make(kind, "small", {}, data.train.texts, 2))
    task.model.eval()
    torch.nn.init.normal_(next(each for name, each in task.model.named_parameters() if "head" in name), std=2)
    before = task.logits(task.model, task.dev)

    found = calibration.calibrate(task)

    after = task.logits(task.model, task.dev)
    np.testing.assert_allclose(after * found["temperature"], before, rtol=1e-3, atol=1e-4)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    assert measure(after, data.dev.labels)["nll"] <= found["nll_before"]
