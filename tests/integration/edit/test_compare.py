"""Two runs side by side: from rows as evaluations leave them, through the real job."""

import json
from pathlib import Path
from typing import Any

import pytest

from broker.errors import JobError
from jobs.edit.tasks import compare
from tests.integration.edit.evaluated import CONFIG, HOSTILE, SCORER, pictures, run, store
from tests.integration.edit.test_report import Page
from tests.integration.recommend.running import run as run_job

pytestmark = pytest.mark.usefixtures("clean_db")


def compared(a: Any, b: Any) -> tuple[dict[str, Any], Path]:
    result = run_job(compare, a=str(a), b=str(b))
    folder = store().fetch(result["report"])
    return json.loads((folder / "report.json").read_text()), folder


def test_differences_are_paired_over_what_both_have_scored(tmp_path: Path) -> None:
    artifact = pictures(tmp_path / "images", 4)
    run({"light": [5.0, 6.0, 7.0, 2.0, "it failed"], "old": [1.0, 1.0]}, artifact, name="first")
    second = run({"light": [7.0, 8.5, 9.0, "unparsable: 'hm'", 4.0], "old": [1.0, 1.0], "new": [3.0]}, artifact)

    data, folder = compared("first", second)

    light = data["categories"]["light"]
    assert (light["pairs"], light["only_first"], light["only_second"]) == (3, 1, 1)
    assert light["difference"] == pytest.approx(6.5 / 3)
    low, high = light["difference_interval_95"]
    assert 2.0 <= low < 6.5 / 3 < high <= 2.5
    assert (light["beyond_chance"], light["better"]) == (True, 3)
    assert data["categories"]["old"]["difference_interval_95"] == [0.0, 0.0]
    assert set(data["categories"]) == {"light", "old"}
    assert [each["pair_id"] for each in data["changed"]] == ["lig-1", "lig-0", "lig-2"]
    assert data["judges_differ"] == []
    page = Page((folder / "index.html").read_text())
    assert len(page.of("img")) == 9  # original and both edits of the three that changed
    assert HOSTILE in "".join(page.text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "| light " in (folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("scorer", "config", "said"),
    [
        ({**SCORER, "revision": "other"}, CONFIG, "revision: 'abc' and 'other'"),
        ({**SCORER, "parameters": {"temperature": 1, "device": "cuda"}}, CONFIG, "parameter temperature: 0 and 1"),
        (SCORER, {**CONFIG, "prompts": {"score": {"default": {"user": "Be harsh."}}}}, "prompts: "),
    ],
)
def test_another_judge_is_said_to_be_one(scorer: dict[str, Any], config: dict[str, Any], said: str) -> None:
    first, second = run({"light": [5.0, 6.0]}), run({"light": [7.0, 8.0]}, scorer=scorer, config=config)

    data, folder = compared(first, second)

    assert [line.startswith(said) for line in data["judges_differ"]] == [True]
    assert "these scores cannot be compared" in (folder / "report.md").read_text()


def test_what_cannot_be_compared_is_refused_in_one_line() -> None:
    first, second = run({"light": [5.0]}), run({"dark": [5.0]})
    failed = run({"light": ["it failed"]})

    for other, said in ((second, "no pair in common"), (failed, "no pair that is scored in both"), (first, "twice"),
                        ("nobody", "there is no run 'nobody'")):  # fmt: skip
        with pytest.raises(JobError, match=said) as raised:
            compared(first, other)
        assert "\n" not in str(raised.value)
