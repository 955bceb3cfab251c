"""A run's configuration: which changes make another run, how prompts are filled in, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from broker.errors import InvalidParams, JobError
from db.edit import EditPair
from jobs.edit import config
from jobs.edit.config import Config

YAML = """
name: five
benchmark: images/benchmark.json
editor: procedural
scorer: {class: measured, parameters: {weight: 0.5}}
prompts:
  edit:
    default: {system: "You edit {category}.", user: "{instruction}!"}
    sky: {user: "{{{id}}} {description}: {instruction}"}
"""
PAIR = EditPair(category="sky", pair_id="7", instruction="{x} brighter", description="a sky")


def read(folder: Path, text: str = YAML, **changed: Any) -> Config:
    path = folder / "run.yaml"
    path.write_text(text)
    found = config.read(str(path))
    return Config.model_validate(found.row() | changed)


def test_yaml_is_read_with_its_defaults_and_is_the_same_after_a_row(tmp_path: Path) -> None:
    found = read(tmp_path)

    assert found.benchmark == str(tmp_path / "images" / "benchmark.json")
    assert (found.row()["editor"], found.batch.pairs) == ({"class": "procedural", "parameters": {}}, 16)
    assert Config.model_validate(json.loads(json.dumps(found.row()))) == found


def test_a_prompt_is_filled_in_once_and_falls_back_to_the_default_part_by_part(tmp_path: Path) -> None:
    found = read(tmp_path)

    assert found.filled("edit", PAIR) == ("You edit sky.", "{7} a sky: {x} brighter")
    assert found.filled("score", PAIR) == ("", "")
    assert read(tmp_path, prompts={}).filled("edit", PAIR) == ("", "{x} brighter")


@pytest.mark.parametrize("changed", [{"seed": 1}, {"name": "six"}, {"categories": ["a"]}, {"editor": "other"}])
def test_what_scores_depend_on_makes_another_run(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert read(tmp_path, **changed).key("sha") != read(tmp_path).key("sha") != read(tmp_path).key("other")


def test_how_it_is_carried_on_makes_no_other_run(tmp_path: Path) -> None:
    how = {"batch": {"edit": 1}, "save_images": False, "stages": "one", "queues": {"edit": "gpu"}, "benchmark": "moved"}

    assert read(tmp_path, **how).key("sha") == read(tmp_path).key("sha")


def test_each_pair_has_a_seed_of_its_own_that_stays(tmp_path: Path) -> None:
    other = EditPair(category="sky", pair_id="8")

    assert read(tmp_path).seed_of(PAIR) == read(tmp_path, batch={"edit": 1}).seed_of(PAIR)
    assert len({read(tmp_path).seed_of(PAIR), read(tmp_path).seed_of(other), read(tmp_path, seed=1).seed_of(PAIR)}) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "neither YAML nor JSON"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("!!python/object/apply:os.system ['true']", "neither YAML nor JSON"),
        ("- a", "holds list"),
        (YAML + "batch: {edit: 0}", "batch.edit=0"),
        (YAML + "queue: gpu", "unknown parameter queue: did you mean queues?"),
        (YAML.replace("{instruction}!", "{instruction.__class__}"), "{instruction.__class__} is no field"),
        (YAML.replace("{instruction}!", "{instruction!r}"), "is no field"),
        (YAML.replace("{instruction}!", "{"), "for braces that stay"),
        (YAML.replace("name: five", 'name: "a\\0b"'), "contains a NUL character"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises((JobError, InvalidParams)) as caught:
        read(tmp_path, text)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_far_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_bytes(b"#" * (2 << 20))

    with pytest.raises(JobError, match="cannot be read on this worker"):
        config.read(str(tmp_path / "gone.yaml"))
    with pytest.raises(JobError, match="it is no configuration"):
        config.read(str(tmp_path / "large.yaml"))
