"""A run takes its pairs in, edits and scores each once, and goes on where it was, whatever is wrong with some."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import text

from broker.errors import HandedOver, JobError
from db import edit, ledger
from db.edit import EditPair
from db.engine import autocommit, session
from db.job import Job
from db.settings import settings
from db.store import ArtifactError, ArtifactStore
from jobs.edit import kept, page
from jobs.edit.adapters.base import EditRequest, EditResult
from jobs.edit.tasks import Evaluate, edit_batch, evaluate
from jobs.upkeep.tasks import clean_artifacts
from tests.editors import Inverter
from tests.integration.edit.conftest import Write, pairs, png, square
from tests.integration.recommend.running import claim, drain, once, run
from workers import context, stopping
from workers.context import RunContext
from workers.models import Limits, ResidentModels

pytestmark = pytest.mark.usefixtures("clean_db")
Trace = Callable[[], list[str]]


class Killed(BaseException):
    pass


def rows() -> dict[str, EditPair]:
    """The pairs of the newest run, by their descriptions."""
    with session() as opened:
        found = edit.run(opened, "squares")
        assert found is not None
        return {row.description: row for row in edit.pairs(opened, found.id)}


def states() -> dict[str, str]:
    """The state of each pair, with its error."""
    return {name: row.state + (f": {row.error}" if row.error else "") for name, row in rows().items()}


def recorded() -> int:
    """How many runs there are."""
    with session() as opened:
        return int(opened.execute(text("SELECT count(*) FROM edit_run")).scalar_one())


def hold(monkeypatch: pytest.MonkeyPatch, device: int, host: int = 0) -> None:
    """Models may take so much in this process, in which none is loaded."""
    monkeypatch.setattr(context, "resident", ResidentModels(limits=lambda: Limits(device, host)))


def edit_job() -> Job:
    """The job of the only batch's edits."""
    with session() as opened:
        return opened.query(Job).where(Job.kind == edit_batch.name).one()


def lose(job: Job) -> None:
    """What a worker's parent does when a process of its dies, and the relay when the pause is over."""
    with autocommit() as on:
        ledger.fail(on, job.id, job.attempt, {"type": "WorkerLost", "message": "killed"}, permanent=False)
        on.execute(text("UPDATE job SET run_at = now() WHERE id = :id"), {"id": job.id})


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    hold(monkeypatch, 1000)
    monkeypatch.setattr(page, "render", lambda *_: "")  # a second for its plots, which test_report.py looks at


def test_all_edits_come_before_all_scores_and_each_pair_has_one_of_both(write: Write, trace: Trace) -> None:
    config = write({"a": pairs("a", "x", "y", "z"), "b": pairs("b", "x", "y", "z")})

    result = run(evaluate, config=str(config))

    assert trace() == [
        "load", "edit a0 a1", "edit a2 b0", "edit b1 b2", "load", "score a0 a1 a2 b0", "score b1 b2",
    ]  # fmt: skip
    assert (result["pairs"], result["scored"], result["failed"]) == (6, 6, 0)
    assert {(row.state, row.edits, row.scores) for row in rows().values()} == {("scored", 1, 1)}
    report = ArtifactStore(settings().artifacts(), settings().home).fetch(result["report"]) / "report.md"
    assert "squares" in report.read_text()


def test_a_small_picture_lies_beside_each_image_for_pages_of_many(write: Write) -> None:
    large = base64.b64encode(png(side=700)).decode()
    run(evaluate, config=str(write({"a": [*pairs("a", "x"), *pairs("b", "y", id="large", image=large)]})))

    store = ArtifactStore(settings().artifacts(), settings().home)
    found = [
        (place["width"], Image.open(store.fetch(place["artifact"]) / place["small"]).size)
        for row in rows().values() for place in (row.original, row.edited)
    ]  # fmt: skip
    assert sorted(found) == [(8, (8, 8))] * 2 + [(700, (320, 320))] * 2


def test_models_that_do_not_fit_together_are_switched_once(
    write: Write, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(monkeypatch, 100)
    config = write({name: pairs(name, "x", "y", "z") for name in "abc"}, memory=60)

    result = run(evaluate, config=str(config))

    assert (result["loads"], result["switches"], result["bytes_moved"]) == (2, 1, 120)
    assert [line for line in trace() if "load" in line] == ["load", "unload", "load"]


def test_in_one_stage_they_are_switched_for_each_batch(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(monkeypatch, 100)
    config = write({"a": pairs("a", *"uvwxyz")}, memory=60, stages="one", batch={"edit": 2, "score": 2})

    result = run(evaluate, config=str(config))

    assert (result["scored"], result["loads"], result["switches"]) == (6, 6, 5)
    with session() as opened:
        assert opened.query(Job.kind).where(Job.kind == "edit.score_batch").count() == 0


def test_what_is_wrong_with_a_pair_is_recorded_and_the_others_go_on(write: Write, trace: Trace, tmp_path: Path) -> None:
    (tmp_path.parent / "outside.png").touch()
    broken = {
        "truncated": {"image": square()[:50]},
        "silent": {"instruction": " "},
        "gone": {"image_path": "gone.png"},
        "outside": {"image_path": "../outside.png"},
        "blank": {},
    }
    given = [
        {"id": name, "instruction": "x", "description": name} | ({} if "image_path" in how or name == "blank" else {
            "image": square()}) | how
        for name, how in broken.items()
    ]  # fmt: skip
    config = write({"a": given + pairs("good", "x", "refuse", "raise", "mumble", "exaggerate", "y", "babble")})

    result = run(evaluate, config=str(config))

    found = states()
    assert (found["good0"], found["good5"]) == ("scored", "scored")
    assert found["good1"] == "failed: it cannot be done"
    assert found["good2"] == "failed: ValueError: a bad pixel"
    assert found["good3"] == "failed: unparsable: the answer holds no number"
    assert found["good4"] == "failed: unparsable: 1000.0 is not between 0 and 10"
    assert "could not convert string to float" in found["good6"]
    for name, said in [
        ("truncated", "base64|truncated|decoded"), ("silent", "the instruction|say what"), ("gone", "no such file"),
        ("outside", "leads out of"), ("blank", "or neither"),
    ]:  # fmt: skip
        assert found[name].startswith("failed: ")
        assert any(each in found[name] for each in said.split("|")), found[name]
    assert (result["scored"], result["failed"], result["unparsable"]) == (2, 10, 2)
    before = len(trace())

    (tmp_path / "gone.png").write_bytes(png("red"))
    again = run(evaluate, config=str(config))

    # Of what had an edited image only the score; nothing of what was scored.
    assert trace()[before:] == [
        "edit good1 good2", "edit good1", "edit good2", "edit gone",
        "score good3 good4 good6", "score good3", "score good4", "score good6", "score gone",
    ]  # fmt: skip
    assert states()["gone"] == "scored"
    assert (again["run"], again["scored"]) == (result["run"], 3)


@pytest.mark.parametrize(
    ("categories", "config", "said"),
    [
        ({"a": pairs("a", "x") + pairs("b", "y")}, {}, "category 'a' has the id '0' twice"),
        ({"a": pairs("a", "x"), "b": []}, {}, "category 'b' has no pairs"),
        ({"a": pairs("a", "x")}, {"categories": ["a", "c"]}, "has no category 'c': it has 'a'"),
        ({"a": [{"image": square()}]}, {}, "its id is None"),
        ([{"pairs": pairs("a", "x"), "name": "a"}], {}, 'give "name", before "pairs"'),
        ({"a": pairs("a", "x")}, {"prompts": {"edit": {"a": {"user": "{instruktion}"}}}}, "{instruktion} is no field"),
        ({"a": pairs("a", "x")}, {"prompts": {"edit": {"b": {"user": "x"}}}}, "prompts name the category 'b'"),
        ({"a": pairs("a", "x")}, {"editor": {"class": "os.system"}}, "this worker does not allow this class"),
        ({"a": pairs("a", "x")}, {"editor": "tests.editors.Difference"}, "is no editor"),
        ({"a": pairs("a", "x")}, {"queues": {"edit": "fast"}}, "of no known class"),
        ({"a": pairs("a", "x")}, {"scorer": None}, "scorer"),
        ({"a": pairs("a", "x")}, {"savings": 1}, "unknown parameter savings"),
        ({"a": pairs("a", "x")}, {"benchmark": "gone.json"}, "gone.json is not a file"),
    ],
)
def test_what_is_wrong_with_the_run_itself_is_one_line_and_nothing_is_recorded(
    write: Write, categories: Any, config: dict[str, Any], said: str
) -> None:
    with pytest.raises(JobError) as caught:
        run(evaluate, config=str(write(categories, **config)))

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert recorded() == 0


def test_an_intake_that_is_killed_goes_on_where_it_was(
    write: Write, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write({"a": pairs("a", *"uvwxyz")}, batch={"edit": 2, "score": 2})
    stored, calls = kept.store, []

    def killed(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise Killed
        return stored(*given)

    monkeypatch.setattr(kept, "store", killed)
    first = claim(evaluate, config=str(config))
    with pytest.raises(Killed):
        once(first, evaluate)
    assert len(rows()) == 2
    with autocommit() as on:
        ledger.hand_over(on, first.id, first.attempt)
    drain()

    assert {(row.state, row.edits, row.scores) for row in rows().values()} == {("scored", 1, 1)}
    assert [row.batch for row in rows().values()] == [0, 0, 1, 1, 2, 2]
    assert [row.position for row in rows().values()] == list(range(6))


def test_a_batch_that_is_killed_does_again_only_the_call_in_hand(
    write: Write, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write({"a": pairs("a", *"wxyz")}, batch={"edit": 1, "score": 4})
    put, calls = edit.put_edits, []

    def killed(*given: Any) -> None:
        put(*given)
        calls.append(given)
        if len(calls) == 3:
            raise Killed  # the rows are written and not committed

    monkeypatch.setattr(edit, "put_edits", killed)
    evaluate.submit(config=str(config))
    with pytest.raises(Killed):
        drain()
    job = edit_job()
    with autocommit() as on:
        ledger.hand_over(on, job.id, job.attempt)
    drain()

    edits = [line for line in trace() if line.startswith("edit")]
    assert edits == ["edit a0", "edit a1", "edit a2", "edit a2", "edit a3"]
    assert {(row.state, row.edits, row.scores) for row in rows().values()} == {("scored", 1, 1)}


def test_a_pair_that_kills_its_process_fails_alone(write: Write, trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    edits, deaths = Inverter.edit_batch, 0

    def deadly(self: Inverter, requests: Sequence[EditRequest]) -> list[EditResult]:
        done = edits(self, requests)
        if any(each.instruction == "deadly" for each in requests):
            raise Killed
        return done

    monkeypatch.setattr(Inverter, "edit_batch", deadly)
    evaluate.submit(config=str(write({"a": pairs("a", "x", "deadly", "y", "z")}, batch={"edit": 4, "score": 4})))
    while True:
        try:
            drain()
            break
        except Killed:
            deaths += 1
            lose(edit_job())

    assert [line for line in trace() if line.startswith("edit")] == [
        "edit a0 a1 a2 a3", "edit a0", "edit a1", "edit a1", "edit a2", "edit a3",
    ]  # fmt: skip
    assert deaths == 3
    assert states() == {
        "a0": "scored", "a2": "scored", "a3": "scored",
        "a1": "failed: its process died 2 times while this pair alone was in the edit stage",
    }  # fmt: skip


def test_a_batch_is_handed_over_between_two_calls_and_none_is_made_twice(
    write: Write, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write({"a": pairs("a", *"wxyz")}, batch={"edit": 2, "score": 4})
    monkeypatch.setattr(stopping, "asked", lambda: "edit a0 a1" in trace())
    evaluate.submit(config=str(config))
    with pytest.raises(HandedOver):
        drain()
    monkeypatch.setattr(stopping, "asked", lambda: False)
    job = edit_job()
    with autocommit() as on:
        ledger.hand_over(on, job.id, job.attempt)
    drain()

    assert [line for line in trace() if line.startswith("edit")] == ["edit a0 a1", "edit a2 a3"]
    assert {(row.state, row.edits, row.scores) for row in rows().values()} == {("scored", 1, 1)}


def test_failed_pairs_stay_as_they_are_when_nothing_is_to_be_retried(write: Write, trace: Trace) -> None:
    config = write({"a": pairs("a", "x", "refuse", "mumble")})
    run(evaluate, config=str(config))
    before, failed = trace(), states()

    run(evaluate, config=str(config), retry_failed=False)

    assert (trace(), states()) == (before, failed)


def test_a_call_that_does_not_fit_into_memory_is_halved_and_none_is_lost(write: Write, trace: Trace) -> None:
    config = write({"a": pairs("a", "too large", "x", "too large", "x")}, batch={"edit": 4, "score": 1})

    result = run(evaluate, config=str(config))

    edits = [line for line in trace() if line.startswith("edit")]
    assert edits == ["edit a0 a1 a2 a3", "edit a0 a1", "edit a0", "edit a1", "edit a2", "edit a3"]
    assert result["scored"] == 4


def test_a_batch_whose_job_failed_for_good_is_failed_and_the_run_says_so(write: Write, tmp_path: Path) -> None:
    config = write({"a": pairs("a", "x", "y")}, memory=2000)  # more than models may take here

    with pytest.raises(JobError, match=r"none of the 2 pairs .* GRISTMILL_MODEL_MEMORY"):
        run(evaluate, config=str(config))

    assert {state.split(":")[0] for state in states().values()} == {"failed"}


def test_two_jobs_never_carry_on_one_run(write: Write, tmp_path: Path) -> None:
    config = write({"a": pairs("a", "x")})
    other = tmp_path / "other.yaml"
    other.write_text(config.read_text())
    first = claim(evaluate, config=str(config))
    once(first, evaluate)  # it waits for its edits

    second = claim(evaluate, config=str(other))
    with pytest.raises(JobError, match=f"is evaluated by job {first.id}: wait for it"):
        evaluate.body(RunContext(second), Evaluate(config=str(other)))


def test_an_editor_of_its_own_has_its_own_queue_and_prompts(write: Write) -> None:
    prompts = {"score": {"default": {"user": "common {id}"}, "b": {"user": "{category}: {instruction}"}}}
    given = {"a": pairs("a", "{x}"), "b": pairs("b", "y")}

    run(evaluate, config=str(write(given, prompts=prompts, queues={"edit": "gpu.edit.own"})))

    with session() as opened:
        queues = dict(opened.execute(text("SELECT kind, queue FROM job WHERE queue <> 'cpu'")).all())
    assert queues == {"edit.edit_batch": "gpu.edit.own", "edit.score_batch": "gpu.score"}
    assert [row.words.partition(": ")[2] for row in rows().values()] == ["common 0", "b: y"]


def test_a_pair_whose_image_is_gone_from_the_store_fails_alone(
    write: Write, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = kept.Images.open

    def gone(images: kept.Images, place: dict[str, Any]) -> Any:
        if place["file"] == "0001.png":
            raise ArtifactError("artifact 1234… is not in the store")
        return opened(images, place)

    monkeypatch.setattr(kept.Images, "open", gone)
    run(evaluate, config=str(write({"a": pairs("a", "x", "y", "z")}, batch={"edit": 3, "score": 3})))

    assert states() == {"a0": "scored", "a1": "failed: artifact 1234… is not in the store", "a2": "scored"}
    assert "edit a0 a2" in trace()


def test_of_images_in_a_remote_store_a_machine_keeps_no_copies(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_ARTIFACTS_URL", f"memory://{tmp_path.name}")
    settings.cache_clear()
    try:
        result = run(evaluate, config=str(write({"a": pairs("a", "x", "y", "z")})))
        kept_here = [path for path in (settings().home / "artifact-cache").rglob("*.png") if path.is_file()]
    finally:
        monkeypatch.undo()
        settings.cache_clear()

    assert result["scored"] == 3
    assert kept_here == []


def test_images_that_are_not_to_be_saved_go_with_the_next_clean_up_and_the_others_stay(write: Write) -> None:
    store = ArtifactStore(settings().artifacts(), settings().home)
    for digest in store.list():
        store.delete(digest)
    result = run(evaluate, config=str(write({"a": pairs("a", "x", "y")}, batch={"edit": 2, "score": 2})))
    assert run(clean_artifacts, grace_hours=0)["artifacts"] == 0

    without = run(evaluate, config=str(write({"a": pairs("a", "x", "z")}, save_images=False)))
    (original,) = {row.original["artifact"] for row in rows().values()}
    cleaned = run(clean_artifacts, grace_hours=0)

    assert cleaned["artifacts"] == 0  # the run before has the same images
    assert {row.edited for row in rows().values()} == {None}
    assert {original, result["report"], without["report"]} <= set(store.list())
    with session() as opened:
        opened.execute(text("DELETE FROM edit_run WHERE id = :id"), {"id": result["run"]})
    assert run(clean_artifacts, grace_hours=0)["artifacts"] == 1
    assert original in store.list()
