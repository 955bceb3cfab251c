"""What classify.distill starts, and what it says of how that ended."""

from typing import Any
from uuid import uuid4

import torch

from broker.context import ChildOutcome
from jobs.classify import distill, student
from jobs.classify.tasks import Distill, TrainStudent
from jobs.text import students
from jobs.text.distil import Distillation
from jobs.text.learner import PERFECT
from jobs.training import engine
from jobs.training.options import Acceleration
from tests.unit.text import tiny

LABELLED = {"logits": "digest", "rows": 500, "teacher": {"artifact": "of the teacher"}}


def ended(accuracy: float | None) -> ChildOutcome:
    result = {
        "metrics": {"dev": {"accuracy": accuracy}}, "parameters": 50, "examples": 90, "artifact": "digest",
    }  # fmt: skip
    if accuracy is None:
        return ChildOutcome(uuid4(), "FAILURE", None, {"message": "too large"})
    return ChildOutcome(uuid4(), "SUCCESS", result, None)


def test_a_student_is_planned_for_each_way_to_learn_and_its_twin_has_as_many_texts() -> None:
    params = Distill(
        kinds=["ngrams", "layers"], sizes=["small"], labels=["hard", "soft"], temperatures=[2, 4], epochs=3
    )

    planned = distill.plan(params, LABELLED)

    shown = [(each["kind"], each.get("logits"), each.get("labels"), each.get("temperature")) for each in planned]
    assert shown[:4] == [
        ("ngrams", "digest", "hard", None), ("ngrams", "digest", "soft", 2.0), ("ngrams", "digest", "soft", 4.0),
        ("ngrams", None, None, None),
    ]  # fmt: skip
    assert [(each["kind"], each["start"]) for each in planned[4:]] == [("layers", "of the teacher")] * 4
    assert [each["rows"] for each in planned if "logits" not in each] == [500, 500]
    parsed = [TrainStudent.model_validate(each) for each in planned]
    assert all(each.candidate and each.epochs == 3 for each in parsed)


def test_the_table_says_what_each_student_gained_over_its_twin_and_why_one_is_not_there() -> None:
    params = Distill(kinds=["ngrams", "bilstm"], labels=["soft"])
    planned = distill.plan(params, LABELLED)

    rows = distill.table(planned, [ended(0.87), ended(0.84), ended(None), ended(0.8)], 1000)

    taught, alone, missing, other = rows
    assert (taught["gain_points"], alone["gain_points"], other["gain_points"]) == (3.0, None, None)
    assert (taught["share"], taught["labels"], alone["labels"]) == (0.05, "soft", "gold")
    assert (missing["dev"], missing["error"]) == (None, "too large")
    assert distill.beside_its_twin(taught) == []
    assert "(-1.0 points on dev)" in distill.beside_its_twin({"gain_points": -1.0, "dev": 0.8})[0]
    assert "(+0.0 points on dev)" in distill.beside_its_twin({"gain_points": 0.0, "dev": 0.8})[0]
    assert distill.beside_its_twin({"gain_points": 0.0, "dev": 1.0}) == []


def test_few_texts_are_seen_more_often_and_in_smaller_batches() -> None:
    def steps(rows: int, **given: Any) -> tuple[int, int, int]:
        made = student.plan(TrainStudent(kind="ngrams", **given), rows)
        return made.batch, made.epochs, made.epochs * -(-rows // made.batch)

    assert steps(48_000)[0] == 256
    assert 900 <= steps(48_000)[2] < 1100
    assert 900 <= steps(3_500)[2] < 1100
    assert steps(3_500)[0] < 64
    assert steps(100, epochs=2, batch=10) == (10, 2, 20)
    assert steps(10_000_000)[1] == 3
    assert steps(20)[1] == 60


def test_a_student_that_makes_no_error_on_dev_any_more_is_not_trained_to_the_last_epoch() -> None:
    data = tiny.dataset()
    how = student.plan(TrainStudent(kind="ngrams", size="small"), len(data.train))
    task = Distillation(data, students.make("ngrams", "small", {}, data.train.texts, len(data.classes)))

    fitted = engine.fit(task, how, Acceleration(acceleration="off"), torch.device("cpu"))

    accuracy = [epoch["accuracy"] for epoch in fitted.history]
    assert accuracy[-PERFECT:] == [1.0] * PERFECT
    assert len(accuracy) < how.epochs / 2
    assert fitted.best["nll"] == min(epoch["nll"] for epoch in fitted.history if epoch["accuracy"] == 1)
