"""A frozen split: the one that is shipped is the one by time, and a file gives back what was written."""

from pathlib import Path

import numpy as np
import pytest

from jobs.recommend import data, frozen
from jobs.recommend.histories import Histories, Split, from_sequences, leave_one_out
from jobs.training.tables import DataError
from tests.unit.recommend.synthetic import histories


def same(one: Split, other: Split) -> bool:
    pairs = (
        (one.train.flat, other.train.flat),
        (one.train.starts, other.train.starts),
        (one.validation, other.validation),
        (one.test, other.test),
    )
    return all(np.array_equal(*pair) for pair in pairs)


def test_movielens_splits_by_time_as_it_was_frozen_though_44_percent_of_the_last_events_are_tied() -> None:
    loaded = data.load(data.ML_100K)
    shipped = frozen.read(frozen.ML_100K)

    split, said = frozen.split_of(loaded.histories, loaded.name)

    assert said == "frozen, as shipped for ml-100k"
    assert same(split, leave_one_out(loaded.histories))
    assert len(shipped.held) == 943
    assert shipped.sha256 == frozen.freeze(split).sha256
    assert loaded.times is not None
    assert round(frozen.tied(loaded.histories, loaded.times), 2) == 0.44


def test_a_split_survives_its_file_and_another_order_of_tied_events(tmp_path: Path) -> None:
    given = from_sequences([[0, 1, 2, 3], [4, 5], [2, 3, 4]], "abcdef", ["u", "v", "w"])
    split = leave_one_out(given)
    frozen.freeze(split).write(tmp_path / "split.csv")
    turned = from_sequences([[0, 1, 3, 2], [5, 4], [3, 4, 2]], "abcdef", ["u", "v", "w"])

    again, said = frozen.split_of(turned, "turned.csv", str(tmp_path / "split.csv"))

    assert said == "frozen in split.csv"
    assert same(frozen.split_of(given, "given.csv", str(tmp_path / "split.csv"))[0], split)
    assert (again.validation.tolist(), again.test.tolist()) == (split.validation.tolist(), split.test.tolist())
    assert [row.tolist() for row in again.train] == [[0, 1], [5, 4], [2]]


def test_a_split_of_other_data_and_a_broken_file_are_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    frozen.freeze(leave_one_out(histories())).write(path)

    with pytest.raises(DataError, match=r"the split is of data with sha256 \w{12}…, other\.csv has \w{12}…: evaluate"):
        frozen.split_of(histories(seed=1), "other.csv", str(path))
    path.write_text(path.read_text() + "u0,i1\n")
    with pytest.raises(DataError, match=r"split split\.csv, line 63: 'u0,i1' is not one user and two items"):
        frozen.read(path)
    path.write_text("user,item\n1,2\n")
    with pytest.raises(DataError, match="its first lines are not"):
        frozen.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        frozen.read(tmp_path / "none.csv")


def test_only_users_who_hold_something_out_count_as_tied() -> None:
    given = Histories(("u", "v", "w"), ("a", "b", "c"), np.array([0, 1, 2, 0, 1, 0, 1, 2]), np.array([0, 3, 5, 8]))

    assert frozen.tied(given, np.array([1, 2, 2, 5, 5, 1, 2, 3])) == 0.5
