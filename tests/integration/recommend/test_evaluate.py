"""Evaluating recommenders: the table, its report and its split, the model in use, and bad input said in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from broker.errors import InvalidParams, JobError
from db.settings import settings
from db.store import ArtifactStore
from jobs.recommend import contest
from jobs.recommend.params import Evaluate, RankerName
from jobs.recommend.tasks import evaluate
from tests.integration.recommend.running import run

QUICK = ["popularity", "transitions", "sasrec", "blend"]


def folder(result: dict[str, Any]) -> Path:
    return ArtifactStore(settings().artifacts(), settings().home).fetch(result["report"])


def test_an_evaluation_measures_all_alike_and_its_report_says_who_beats_whom(clean_db: Path, events: Path) -> None:
    found = run(evaluate, data=str(events), models=QUICK, preset="quick", seeds=2)

    report = json.loads((folder(found) / "report.json").read_text())
    page = (folder(found) / "index.html").read_text()
    assert found["models"].keys() == {*QUICK}
    assert {name: len(entry["seeds"]) for name, entry in found["models"].items()} == {
        "popularity": 1, "transitions": 1, "sasrec": 2, "blend": 2,
    }  # fmt: skip
    for entry in found["models"].values():
        low, high = entry["interval"]
        assert low <= entry["ndcg@10"] <= high
        for protocol in ("unfiltered", "u100", "p100"):
            assert entry[protocol].keys() >= {"hit@10", "ndcg@10", "mrr"}
        assert 0 < entry["coverage@10"] <= 1
    best = max(entry["validation ndcg@10"] for entry in found["models"].values())
    assert found["models"][found["chosen"]]["validation ndcg@10"] == best
    assert len(report["pairs"]) == 6
    assert report["verdict"] == found["verdict"]
    assert found["verdict"][0].startswith("By validation (ndcg@10 ")
    assert "<svg" in page
    assert "Who ranks better than whom" in page
    assert found["data"]["ties"] == "0% of the last events are tied in time with the one before"

    again = run(
        evaluate, data=str(events), models=["transitions"], preset="quick", split=str(folder(found) / "split.csv")
    )

    assert again["data"]["split_sha256"] == found["data"]["split_sha256"]
    assert again["data"]["split"].startswith("frozen in split.csv")
    assert again["models"]["transitions"]["ndcg@10"] == found["models"]["transitions"]["ndcg@10"]


def test_the_model_in_use_is_measured_beside_the_others(trained: dict[str, Any]) -> None:
    found = run(evaluate, data="database", models=["transitions"], in_use=True)

    assert found["models"].keys() == {"transitions", "in use (version 1)"}
    assert "it may have been trained on what is held out" in found["models"]["in use (version 1)"]["seeds"][0]["remark"]


@pytest.mark.parametrize(
    ("rows", "params", "said"),
    [
        ("u,a,1\nu,b,2\nv,a,1\n", {}, "no user has three items or more"),
        (
            "u,a,1\nu,b,2\nu,c,3\n",
            {"split": __file__},
            "split test_evaluate.py: its first lines are not '# data sha256",
        ),
        ("u,a,1\nu,b,2\nu,c,3\n", {"in_use": True}, "no recommender is in use"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(
    clean_db: Path, tmp_path: Path, rows: str, params: dict[str, Any], said: str
) -> None:
    path = tmp_path / "few.csv"
    path.write_text(f"user,item,timestamp\n{rows}")

    with pytest.raises(JobError, match=said) as caught:
        run(evaluate, data=str(path), models=["popularity"], **params)

    assert "\n" not in str(caught.value)


def test_an_unknown_model_is_refused_with_the_list_of_those_known(clean_db: Path) -> None:
    with pytest.raises(InvalidParams, match="'sasrec', 'bert4rec', 'blend'"):
        evaluate.submit(models=["sasrek"])


def test_every_name_that_may_be_given_is_a_ranker() -> None:
    assert RankerName.__args__ == contest.NAMES
    assert Evaluate().models == list(contest.NAMES)
