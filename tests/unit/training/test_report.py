"""The report of a training is readable whatever happened in it: nothing, NaN losses, ten resumes, many epochs."""

import json
import math
import re
import warnings
from pathlib import Path

import pytest
from matplotlib.image import imread

from jobs.training import fonts, report
from jobs.training.confusion import Confusion
from jobs.training.record import Choice, Point, Record
from jobs.training.summary import markdown, said, whole


def trained(epochs: int, *, bad: bool = False, resumed: int = 0) -> Record:
    """A record as the engine leaves it, 20 steps an epoch."""
    losses = [2 + 5 / step for step in range(1, 20 * epochs + 1)]
    if bad:
        losses[5:7] = [math.nan, math.inf]
    metric = [math.nan if bad and epoch == 2 else 1 - 1 / (epoch + 1) for epoch in range(1, epochs + 1)]
    return Record(
        points=[Point(step, step / 10, loss, 1e-3, None if step == 1 else loss) for step, loss in enumerate(losses, 1)],
        epochs=[{"epoch": n, "seconds": 2.0, "loss": 2.5, "accuracy": each} for n, each in enumerate(metric, 1)],
        spent={"step": 8.0, "validate": 2.0},
        steps=len(losses),
        examples=64 * len(losses),
        targets=64 * len(losses),
        tokens=1000 * len(losses),
        padding=250 * len(losses),
        resumed=list(range(3, 3 + resumed)),
        events=["step 6: the loss is nan"] * bad,
        choices=[Choice("buckets", True, "less padding", {"off": 100.0, "on": 70.0})],
        options={"buckets": True, "clip": 1.0, "tokens": None},
        profile=[{"name": "aten::addmm", "calls": 1200, "ms": 500.0, "share": 0.5}],
        memory={"host_peak": 900.0},
        device="cpu, 16 GB",
    )


@pytest.mark.parametrize(
    "record",
    [Record(), trained(1), trained(30), trained(3, bad=True), trained(5, resumed=10)],
    ids=["empty", "one epoch", "many epochs", "not finite", "resumed"],
)
def test_a_report_is_text_numbers_and_a_picture_whatever_happened(tmp_path: Path, record: Record) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.write(tmp_path, record, "a $title$ of 中文 and _more_")

    height, width, _ = imread(tmp_path / "curves.png").shape
    assert (width, height) == (1500, 1350)
    assert json.loads((tmp_path / "report.json").read_text())["title"] == "a $title$ of 中文 and _more_"
    assert (tmp_path / "report.md").read_text().startswith("# a $title$ of 中文 and _more_\n")


def test_numbers_that_are_not_finite_are_null_in_json_and_named_in_the_text(tmp_path: Path) -> None:
    report.write(tmp_path, trained(3, bad=True), "bad")

    data = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert [point["loss"] for point in data["points"][5:7]] == [None, None]
    assert data["epochs"][1]["accuracy"] is None
    text = (tmp_path / "report.md").read_text()
    assert "nan" in next(line for line in text.splitlines() if line.startswith("| 2 "))
    assert "- step 6: the loss is nan" in text


def test_the_json_is_the_record_again(tmp_path: Path) -> None:
    record = trained(2, resumed=1)

    report.write(tmp_path, record, "again")

    data = json.loads((tmp_path / "report.json").read_text())
    assert Record.of({name: data[name] for name in record.json()}) == record


def test_the_text_tells_speed_stages_choices_and_options() -> None:
    text = markdown(trained(2, resumed=2), "a training", {"best_epoch": 2})

    for line in (
        "- best epoch: 2",
        "| examples |               320 |             256 |  2,560 |",
        "25.0% of the tokens are padding.",
        "| step     |    8.00 | 80.0% |",
        "| `aten::addmm` | 1,200 | 500 | 50.0% |",
        "| host peak | 900 |",
        "- **buckets: on** less padding (off 100 ms, on 70.0 ms a step)",
        "| tokens  | none  |",
        "2 times, from step 3, 4.",
    ):
        assert line in text.splitlines(), text


def test_many_epochs_are_thinned_out_and_the_last_one_stays() -> None:
    text = markdown(trained(100), "long", {}).partition("## Epochs")[2].partition("##")[0]

    numbers = re.findall(r"^\| (\d+)", text, re.MULTILINE)
    assert (numbers[:3], numbers[-1]) == (["1", "4", "7"], "100")
    assert "One epoch in 3; all of them are in report.json." in text


def test_what_there_is_nothing_to_say_about_is_left_out() -> None:
    text = markdown(Record(), "nothing", {})

    assert "##" not in text


@pytest.mark.parametrize(("number", "text"), [(12345.6, "12,346"), (71.04, "71.0"), (0.5, "0.50"), (0.00412, "0.0041")])
def test_numbers_keep_about_three_digits(number: float, text: str) -> None:
    assert whole(number) == text


def test_values_are_written_as_a_person_would() -> None:
    assert (
        said({"on": True, "rate": 0.00123456, "none": None, "many": [1, "a"]})
        == "on on, rate 0.001235, none none, many 1, a"
    )


def test_a_classifiers_report_has_its_confusions_as_a_picture_and_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "draw", lambda *_: None)  # the curves, which take their time
    found = Confusion([[9, 1, 0], [0, 8, 2], [0, 0, 0]], ["a $class$", "_财经", "never there"], "dev")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.write(tmp_path, trained(1), "teacher on 新闻", None, found)

    assert imread(tmp_path / "confusion.png").shape[0] >= 600
    assert json.loads((tmp_path / "report.json").read_text())["confusion"] == found.json()
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"\| a \$class\$ +\| +10 \| +100.0% \| +90.0% \| 94.7% \|", text)
    assert re.search(r"\| _财经 +\| never there +\| +2 \|", text)
    assert next(iter(found.pairs())) == ("_财经", "never there", 2)


def test_many_classes_have_a_larger_picture(tmp_path: Path) -> None:
    table = [[9 if row == column else 1 for column in range(28)] for row in range(28)]

    Confusion(table, [f"class {number}" for number in range(28)], "dev").draw(tmp_path / "many.png", "many")

    assert imread(tmp_path / "many.png").shape[0] > 1500


def test_a_name_that_no_font_can_draw_is_known_before_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_installed", lambda: ())

    assert not fonts.lacks("Straße $5 – ok")
    assert fonts.lacks("财经")
    assert fonts.shown("teacher on 财经") == "teacher on ??"
