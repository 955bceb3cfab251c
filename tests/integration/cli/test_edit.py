"""`gristmill edit`: what the runs of an editor's evaluation look like from a terminal."""

from pathlib import Path

import pytest

from tests.integration.cli.conftest import Gristmill
from tests.integration.edit.evaluated import run

pytestmark = pytest.mark.usefixtures("clean_db")


def test_runs_and_their_categories_are_listed_as_text_and_as_json(gristmill: Gristmill) -> None:
    found = run({"light": [4.0, 8.0, "it was cut off"], "colour": [3.0]}, name="nightly")

    listed, shown = gristmill("edit", "runs"), gristmill("edit", "show", str(found)[:8])
    data = gristmill("edit", "show", "nightly", "--json").data

    assert [line.split()[:6] for line in listed.out.splitlines()[1:]] == [
        [str(found)[:8], "nightly", "4", "3", "1", "5.00"]
    ]
    assert "4 of 4 pairs, 1 failed" in shown.out
    assert (data["id"], data["categories"]["light"]["scored"], data["categories"]["light"]["mean"]) == (
        str(found),
        2,
        6.0,
    )
    assert gristmill("edit", "runs", "--json").data[0]["mean"] == 5.0


def test_a_run_that_is_not_there_or_is_named_twice_is_refused_in_one_line(gristmill: Gristmill) -> None:
    run({"light": [4.0]}, name="nightly")

    nobody, twice = gristmill("edit", "show", "nobody"), gristmill("edit", "compare", "nightly", "nightly")

    assert (nobody.code, nobody.err.count("\n")) == (2, 1)
    assert "there is no run 'nobody'" in nobody.err
    assert (twice.code, "are the same run" in twice.err) == (2, True)


def test_the_sample_says_how_it_is_run_and_overwrites_nothing(gristmill: Gristmill, tmp_path: Path) -> None:
    written = gristmill("edit", "sample", str(tmp_path / "new"), "--pairs", "1", "--json")
    again = gristmill("edit", "sample", str(tmp_path / "new"), "--pairs", "1")

    assert Path(written.data["config"]).read_text().startswith("#")
    assert "gristmill submit edit.evaluate --config" in written.err
    assert (again.code, "is there already" in again.err) == (2, True)
