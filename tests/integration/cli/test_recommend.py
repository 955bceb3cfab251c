"""The recommender's commands over real rows: cached lists with titles, statistics, clean-up, the registry of models."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from db import recommend as rows
from db import registry
from db.artifact import Model
from db.engine import session
from db.store import Stored
from tests.integration.cli.conftest import Gristmill
from workers.cli.titles import read_titles

pytestmark = pytest.mark.usefixtures("clean_db")

FEATURES = {"genres": ["War", "Drama"], "year": 1977}
METRICS = {"test": {"ndcg@10": 0.1, "hit@10": 0.2}, "popularity": {"ndcg@10": 0.05}}


def versions(count: int) -> None:
    with session() as opened:
        for number in range(1, count + 1):
            stored = Stored(f"{number}" * 64, 10, {})
            registry.record(opened, stored, rows.MODEL, None)
            registry.add(opened, rows.MODEL, stored.digest, METRICS, {}, None, promote_over=None)


@pytest.fixture
def cached_list(clean_db: Path) -> None:
    """A user with a fresh list of two items."""
    versions(1)
    user: dict[str, Any] = {"username": "ann", "external_id": None, "profile_hash": "h"}
    with session() as opened:
        rows.put_items(opened, [{"item_id": "50", "title": "Star Wars (1977)", "features": FEATURES}])
        rows.put_profiles(opened, [user | {"item_ids": ["1"]}])
        listed = user | {"features": {}, "items": [["50", 2.5], ["51", 1.5]]}
        rows.put_lists(opened, [listed], model_version=1, top_k=2)


@pytest.mark.usefixtures("cached_list")
def test_a_fresh_list_is_printed_with_titles_and_no_job_is_made(gristmill: Gristmill) -> None:
    said = gristmill("recommend", "ann", "--top-k", "2")

    assert said.code == 0
    assert "Star Wars (1977)" in said.out
    assert gristmill("jobs", "--json").data == []
    again = gristmill("recommend", "ann", "--top-k", "1", "--json").data
    assert (again["source"], again["model_version"]) == ("redis", 1)
    assert again["items"] == [{"item": "50", "title": "Star Wars (1977)", "score": 2.5}]


@pytest.mark.usefixtures("cached_list")
def test_a_stranger_gets_what_is_popular_and_a_note(gristmill: Gristmill) -> None:
    said = gristmill("recommend", "bob", "--genre", "war", "--genre", "drama")
    plain = gristmill("recommend", "bob", "--json")

    assert (said.code, "Star Wars (1977)" in said.out) == (0, True)
    assert said.err.startswith("unknown user 'bob': import a history")
    assert (plain.data["basis"], plain.data["items"][0]["item"]) == ("popular", "50")
    assert gristmill("jobs", "--json").data == []


@pytest.mark.usefixtures("cached_list")
def test_reasons_come_from_rows(gristmill: Gristmill) -> None:
    with session() as opened:
        rows.put_items(opened, [{"item_id": "1", "title": "Das Boot (1981)", "features": {"genres": ["War", "Drama"]}}])
        opened.get_one(rows.UserProfile, "ann").features = {"genres": {"War": 1}}

    (first,) = gristmill("recommend", "ann", "--top-k", "1", "--why", "--json").data["items"]
    shown = gristmill("recommend", "ann", "--top-k", "1", "--why").out

    assert first["why"]["shared"] == [{"feature": "genres", "value": "War", "count": 1, "of": 1}]
    assert shown.splitlines() == [
        "  1 Star Wars (1977)  50  2.500",
        "    genres: War (1 of 1)",
        "    like Das Boot (1981)",
    ]
    assert first["why"]["like"] == [{"item": "1", "title": "Das Boot (1981)", "likeness": 0.5}]


@pytest.mark.usefixtures("cached_list")
def test_a_part_of_a_title_that_fits_several_items_lists_them(gristmill: Gristmill) -> None:
    with session() as opened:
        rows.put_items(opened, [{"item_id": "51", "title": "Stargate (1994)", "features": {}}])

    said = gristmill("similar", "STAR")

    assert (said.code, said.err) == (2, "gristmill: 'STAR' is in 2 titles: give the id of one\n")
    assert [line.split()[0] for line in said.out.splitlines()] == ["item", "50", "51"]


def test_titles_are_read_as_a_catalogue_is(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("item,title,genres,year,adult\nn1,New,War|Drama,1999,false\nn2,,,nan,\n")

    assert read_titles(str(tmp_path / "new.csv")) == [
        {"item_id": "n1", "title": "New", "features": {"genres": ["War", "Drama"], "year": 1999, "adult": False}},
        {"item_id": "n2", "title": None, "features": None},
    ]


@pytest.mark.usefixtures("cached_list")
def test_statistics_count_what_was_read(gristmill: Gristmill) -> None:
    gristmill("recommend", "ann", "--top-k", "2")
    gristmill("recommend", "ann", "--top-k", "2")

    found = gristmill("cache", "stats", "--json").data
    assert (found["hits"], found["misses"], found["hit_rate"], found["cached_users"]) == (2, 0, 1.0, 1)
    assert "hit rate" in gristmill("cache", "stats").out


@pytest.mark.usefixtures("cached_list")
def test_clean_up_deletes_what_is_old_enough(gristmill: Gristmill) -> None:
    assert gristmill("cache", "cleanup", "--days", "1", "--json").data == {"deleted": 0}
    assert gristmill("cache", "cleanup", "--days", "0", "--json").data == {"deleted": 1}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("recommend nobody", "unknown user 'nobody': import a history with recommend.import_data\n"),
        ("recommend ''", "user='': give a name of a user"),
        ("recommend nobody --top-k=-3", "top_k=-3: give a number from 1 to 1000"),
        ("recommend ann --diversity 2", "policy: diversity=2.0: input should be less than or equal to 1"),
        ("recommend ann --from 2000 --to 1990", "policy: year_from=2000 is after year_to=1990: swap them"),
        ("recommend ann --force --adult", "--force with a policy: such a list is never cached, leave one of the two"),
        ("similar Sta", "no item 'Sta': it is no id of the catalogue, and no title has it in it"),
        (
            "score-items ann season.parquet",
            "season.parquet: titles are read from .csv or .tsv: write it as one of them",
        ),
        ("score-items ann nowhere.csv", "cannot read 'nowhere.csv': No such file or directory"),
        ("score-items nobody 50", "unknown user 'nobody': import a history with recommend.import_data"),
        ("cache cleanup --days=-1", "days=-1: give a number of days from 0 to 36500"),
        ("cache cleanup --days nan", "days=nan: give a number of days from 0 to 36500"),
        ("models promote recommend 9", "no model recommend version 9: there are versions 2, 1"),
        ("models promote recomend 1", "no model recomend version 1: there is recommend"),
        ("submit recommend.pretrain_user --username nobody", "unknown user 'nobody': import a history with"),
        ("submit recommend.train --model svd", "recommend.train: model=\"svd\": input should be 'sasrec', "),
        ("submit recommend.pretrain_all --top-k=-3", 'recommend.pretrain_all: top_k="-3": input should be greater'),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2_and_no_job(gristmill: Gristmill, arguments: str, line: str) -> None:
    versions(2)

    done = gristmill(*shlex.split(arguments))

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"gristmill: {line}")
    assert gristmill("jobs", "--json").data == []


def test_models_are_listed_and_another_version_is_put_into_use(gristmill: Gristmill) -> None:
    versions(2)

    assert "test ndcg@10 0.1000, popularity ndcg@10 0.0500" in gristmill("models").out
    assert [(each["version"], each["is_current"]) for each in gristmill("models", "--json").data] == [
        (2, False),
        (1, True),
    ]
    assert gristmill("models", "promote", "recommend", "2", "--json").data["is_current"] is True
    with session() as opened:
        current = registry.current(opened, rows.MODEL)
    assert isinstance(current, Model)
    assert current.version == 2


def test_an_empty_registry_says_how_to_fill_it(gristmill: Gristmill) -> None:
    assert "train one with `gristmill submit recommend.train`" in gristmill("models").out


def test_a_jobs_help_shows_types_limits_and_defaults(gristmill: Gristmill) -> None:
    shown = gristmill("submit", "recommend.pretrain_user", "--help").out

    assert "Pre-compute one user's profile and top recommendations." in shown
    assert "[required]" in shown
    assert "At least 1, at most 1000." in shown
    assert "[default: 100]" in shown
