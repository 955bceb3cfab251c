"""`gristmill report`: what a training job kept, and one line with the remedy where there is nothing to show."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from broker.errors import JobError
from db.engine import session
from db.job import Job as Row
from db.settings import settings
from db.store import ArtifactStore
from tests import jobs
from tests.integration.cli.conftest import Gristmill
from tests.integration.recommend.running import claim, once, run

pytestmark = pytest.mark.usefixtures("clean_db")


def store() -> ArtifactStore:
    return ArtifactStore(settings().artifacts(), settings().home)


def newest(gristmill: Gristmill) -> str:
    found: str = gristmill("jobs", "--json").data[0]["id"]
    return found


def test_it_shows_the_text_and_says_where_the_picture_lies(gristmill: Gristmill) -> None:
    run(jobs.train)

    shown = gristmill("report", newest(gristmill)[:8])

    assert shown.code == 0
    assert shown.out.startswith("# a training of the tests\n")
    assert "| examples |" in shown.out
    picture = Path(shown.err.removeprefix("curves: ").strip())
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_has_the_whole_record_and_the_picture(gristmill: Gristmill) -> None:
    run(jobs.train)
    job_id = newest(gristmill)

    data = gristmill("report", job_id, "--json").data

    assert (data["job"], data["title"], data["steps"]) == (job_id, "a training of the tests", 10)
    assert (data["facts"], data["speed"]) == ({"metric": "accuracy"}, {"examples_per_s": 160.0, "targets_per_s": 0.0,
                                                                        "tokens_per_s": 0.0})  # fmt: skip
    assert Path(data["curves"]).exists()


def test_out_copies_the_folder_and_overwrites_nothing(gristmill: Gristmill, tmp_path: Path) -> None:
    run(jobs.train)
    job_id, out = newest(gristmill), tmp_path / "made" / "here"

    copied = gristmill("report", job_id, "--out", str(out))
    again = gristmill("report", job_id, "--out", str(out))

    assert copied.err == f"curves: {out / 'curves.png'}\n"
    assert json.loads((out / "report.json").read_text())["steps"] == 10
    assert (again.code, again.err) == (
        2,
        f"gristmill: --out {out} is there already: name a folder that is new or empty\n",
    )


def test_where_there_is_none_one_line_says_why_and_what_to_do(gristmill: Gristmill) -> None:
    def said(job_id: str) -> str:
        done = gristmill("report", job_id)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        return done.err.removeprefix("gristmill: ").strip().replace(job_id, "ID").replace(job_id[:8], "SHORT")

    run(jobs.add, x=1)
    assert (
        said(newest(gristmill))
        == "job ID (tests.add) has no report: only trainings, evaluations and comparisons write one"
    )
    run(jobs.train, report=False)
    assert said(newest(gristmill)) == (
        "job ID (tests.train) has no report: `gristmill retry SHORT` runs it again and writes one"
    )
    with pytest.raises(JobError):
        run(jobs.train, fail=True)
    assert said(newest(gristmill)) == (
        "job ID (tests.train) ended FAILURE, and only a job that ends well has a report: `gristmill show SHORT`"
    )
    claimed = claim(jobs.train)
    assert said(str(claimed.id)) == (
        "job ID (tests.train) is STARTED, and its report is written at its end: `gristmill wait SHORT`"
    )
    digest = run(jobs.train)["report"]
    store().delete(digest)
    assert said(newest(gristmill)).startswith(
        f"the report of job ID cannot be read: artifact {digest[:12]}… is not in the store"
    )


@pytest.mark.parametrize(
    ("job_id", "line"), [("00000000", "no job has the id '00000000'"), ("abc", "'abc' is no job id")]
)
def test_an_unknown_job_is_one_line(gristmill: Gristmill, job_id: str, line: str) -> None:
    done = gristmill("report", job_id)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"gristmill: {line}")


def test_a_store_that_refuses_costs_the_report_and_not_the_training(
    gristmill: Gristmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: ArtifactStore, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArtifactStore, "put", full)
    claimed = claim(jobs.train)
    once(claimed, jobs.train)

    with session() as opened:
        row = opened.get_one(Row, UUID(str(claimed.id)))
        assert (row.state, row.result) == ("SUCCESS", {"report": None})
    done = gristmill("report", str(claimed.id))
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "was not kept: " in done.err
    assert "No space left on device" in done.err


def test_the_help_of_a_training_shows_its_own_parameters_first(gristmill: Gristmill) -> None:
    said = gristmill("submit", "tests.train", "--help").out

    places = [said.index(each) for each in ("--fail", "How to train", "--acceleration", "Submission", "--wait")]
    assert places == sorted(places)
