"""A benchmark is read as a stream, in both of its shapes; what is wrong with the file is one line."""

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from broker.errors import JobError
from jobs.edit import benchmark
from jobs.edit.images import ImageError


def write(folder: Path, value: Any) -> Path:
    path = folder / "benchmark.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_both_shapes_hold_the_same_pairs_in_the_order_of_the_file(tmp_path: Path) -> None:
    pairs = {"a.b": [{"id": 1, "instruction": "x"}], "c": [{"id": "1"}, {"id": "2", "nested": {"list": [1.5, None]}}]}
    as_list = [{"comment": {}, "name": name, "pairs": found} for name, found in pairs.items()]
    shapes = [{"about": [{}], "categories": pairs, "end": 1}, {"categories": as_list}]

    for shape in shapes:
        path = write(tmp_path, shape)
        survey = benchmark.survey(path, None)
        items = list(benchmark.items(path, survey.pairs))

        assert survey.pairs == {"a.b": 1, "c": 2}
        assert survey.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert [(each.category, each.id, each.position) for each in items] == [
            ("a.b", "1", 0),
            ("c", "1", 1),
            ("c", "2", 2),
        ]
        assert items[2].fields["nested"] == {"list": [1.5, None]}


def test_only_the_categories_that_are_asked_for_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, {"categories": {"a": [{"id": "1"}, {"id": "1"}], "b": [], "c": [{"id": "3"}]}})

    survey = benchmark.survey(path, ["c"])

    assert (survey.pairs, survey.known) == ({"c": 1}, {"a", "b", "c"})
    assert [each.position for each in benchmark.items(path, survey.pairs)] == [0]


def test_of_many_images_one_is_in_memory_at_a_time(tmp_path: Path) -> None:
    image = "A" * 200_000
    path = write(tmp_path, {"categories": {"a": [{"id": str(n), "image": image} for n in range(100)]}})

    tracemalloc.start()
    survey = benchmark.survey(path, None)
    count = sum(1 for _ in benchmark.items(path, survey.pairs))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (count, survey.pairs) == (100, {"a": 100})
    assert peak < 10 * len(image)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "not JSON that can be read"),
        ('{"categories": {"a": [{"id": "1"', "not JSON that can be read"),
        ('{"categories": {"a": []}} and more', "not JSON that can be read"),
        ("[]", "is no JSON object"),
        ({"categories": 1}, "neither an object nor a list"),
        ({"categories": {"a": {"id": "1"}}}, "category 'a' is no list of pairs"),
        ({"categories": ["a"]}, "a category in the list is no object"),
        ({"categories": {}}, "has no categories"),
        ({"pairs": []}, "has no categories"),
        ({"categories": {"a": ["b"]}}, "its id is None"),
        ({"categories": {"a": [{"id": True}]}}, "its id is True"),
        ({"categories": {"a": [{"id": "1" * 201}]}}, "at most 200 characters"),
    ],
)
def test_a_file_of_another_shape_is_refused_in_one_line(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(JobError) as caught:
        benchmark.survey(write(tmp_path, value), None)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../secret", "leads out of the benchmark's folder"),
        ("/etc/passwd", "leads out of the benchmark's folder"),
        ("link", "leads out of the benchmark's folder"),
        (".", "there is no such file"),
        ("a\0b", "cannot be read"),
        ("a" * 5000, "cannot be read"),
    ],
)
def test_an_image_outside_of_the_folder_or_that_is_no_file_is_refused(tmp_path: Path, path: str, said: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")

    with pytest.raises(ImageError, match=said):
        benchmark.Item("a", "1", 0, {"instruction": "x", "image_path": path}).image(folder)
