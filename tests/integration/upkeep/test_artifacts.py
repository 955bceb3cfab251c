"""The clean-up of artifacts deletes what nothing points to, and only that."""

import json
import os
from pathlib import Path

import pytest
from sqlalchemy import text

from broker.errors import JobError
from db import registry
from db.engine import session
from db.settings import settings
from db.store import ArtifactStore
from jobs.upkeep.tasks import clean_artifacts
from tests.integration.recommend.running import claim, run
from tests.jobs import keyed
from tests.jobs import train as training

pytestmark = pytest.mark.usefixtures("clean_db")


@pytest.fixture
def store() -> ArtifactStore:
    opened = ArtifactStore(settings().artifacts(), settings().home)
    for digest in opened.list():
        opened.delete(digest)
    return opened


def put(store: ArtifactStore, folder: Path, name: str, *, row: bool = True) -> str:
    place = folder / name
    place.mkdir()
    (place / "manifest.json").write_text(json.dumps({"name": name}))
    stored = store.put(place)
    if row:
        with session() as opened:
            registry.record(opened, stored, "test", None)
    return stored.digest


def test_only_what_no_live_row_points_to_is_deleted(store: ArtifactStore, tmp_path: Path) -> None:
    in_use, teacher, asked_for, orphan, stray = (
        put(store, tmp_path, name, row=name != "stray")
        for name in ("in use", "teacher", "asked for", "orphan", "stray")
    )
    with session() as opened:
        registry.add(opened, "student", in_use, {}, {"teacher": teacher}, None, promote_over=None)
    claim(keyed, name=asked_for)  # a job that is not final has the digest among its parameters

    result = run(clean_artifacts, grace_hours=0)

    assert store.list() == sorted([in_use, teacher, asked_for])
    assert (result["artifacts"], result["folders"]) == (1, 1)
    assert orphan != stray
    with session() as opened:
        rows = set(opened.execute(text("SELECT digest FROM artifact")).scalars())
    assert rows == {in_use, teacher, asked_for}


def test_what_is_younger_than_the_grace_stays(store: ArtifactStore, tmp_path: Path) -> None:
    kept = {put(store, tmp_path, "orphan"), put(store, tmp_path, "stray", row=False)}

    run(clean_artifacts)

    assert set(store.list()) == kept


def test_a_report_stays_as_long_as_a_job_names_it_in_its_result(store: ArtifactStore) -> None:
    named = run(training)["report"]
    with pytest.raises(JobError):
        run(training, fail=True)  # its result names nothing
    assert len(store.list()) == 2

    run(clean_artifacts, grace_hours=0)
    assert store.list() == [named]

    with session() as opened:
        opened.execute(text("UPDATE job SET result = NULL"))  # forgotten, as AsyncResult.forget does
    run(clean_artifacts, grace_hours=0)
    assert store.list() == []


def test_checkpoints_of_final_jobs_go_and_those_of_live_ones_stay(store: ArtifactStore, tmp_path: Path) -> None:
    live = str(claim(keyed, name="live").id)
    for name in (live, "00000000-0000-0000-0000-000000000000"):
        place = f"{store.root}/.checkpoints/{name}/00000001"
        store.fs.makedirs(place, exist_ok=True)
        store.fs.pipe(f"{place}/.complete", b"")

    result = run(clean_artifacts, grace_hours=0)

    assert result["checkpoints"] >= 1
    left = [path.rsplit("/", 1)[-1] for path in store.fs.ls(f"{store.root}/.checkpoints", detail=False)]
    assert left == [live]


def test_an_old_folder_that_was_put_just_now_is_young(store: ArtifactStore, tmp_path: Path) -> None:
    place = tmp_path / "old"
    place.mkdir()
    (place / "manifest.json").write_text("{}")
    os.utime(place / "manifest.json", (0, 0))

    stored = store.put(place)
    run(clean_artifacts)

    assert store.list() == [stored.digest]


def test_what_is_half_written_goes_once_it_is_old(store: ArtifactStore) -> None:
    half = Path(store.root) / ".partial" / "half"
    half.mkdir(parents=True)
    (half / "weights").touch()

    assert run(clean_artifacts)["unfinished"] == 0
    assert run(clean_artifacts, grace_hours=0)["unfinished"] == 1
    assert not half.exists()
