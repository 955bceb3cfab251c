"""What a stored model weighs: the same arithmetic in torch's form and in ONNX, counted by hand for a small one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from jobs.text import footprint, runtime, students
from jobs.text.artifact import Loaded
from jobs.text.export import export
from tests.unit.text import tiny

TEXTS = tuple(text for text, _ in tiny.rows(20, seed=1))
WIDTH, HIDDEN = 8, 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A BiLSTM that has learned nothing, as torch's artifact and as ONNX."""
    student = students.make("bilstm", "small", {"width": WIDTH, "hidden": HIDDEN}, TEXTS, 2)
    facts = {"architecture": "tiny", "network": student.network, "classes": list(tiny.CLASSES)}
    facts["reading"] = {"max_length": 24, "prefix": "", "pad": 0}
    loaded = Loaded(student.model.eval(), student.tokenizer, tiny.CLASSES, facts, torch.device("cpu"))
    made = (tmp_path_factory.mktemp("torch"), tmp_path_factory.mktemp("onnx"))
    for folder in made:
        (folder / "manifest.json").write_text(json.dumps(facts))
        student.tokenizer.backend_tokenizer.save(str(folder / runtime.TOKENIZER))
    save_file(dict(student.model.state_dict()), made[0] / "model.safetensors")
    export(loaded, made[1] / runtime.MODEL, TEXTS)
    return made


def test_the_arithmetic_of_an_lstm_is_that_of_its_matrices(folders: tuple[Path, Path]) -> None:
    tokens = 10
    each_way = 4 * HIDDEN * (WIDTH + HIDDEN)

    expected = 2 * (2 * each_way * tokens + 2 * HIDDEN * 2)

    assert [footprint.flops(folder, tokens) for folder in folders] == [expected, expected]


def test_tokens_and_zeros_are_the_same_in_both_forms(folders: tuple[Path, Path]) -> None:
    lengths = [len(text.split()) for text in TEXTS]

    assert footprint.tokens(folders[0], TEXTS) == footprint.tokens(folders[1], TEXTS)
    assert min(lengths) <= footprint.tokens(folders[0], TEXTS) <= max(lengths) + 2
    assert [footprint.sparsity(folder) for folder in folders] == [0, 0]
    assert footprint.disk_mb(folders[1]) == sum(each.stat().st_size for each in folders[1].iterdir()) / 1e6


def test_a_model_that_cannot_be_opened_has_no_memory(tmp_path: Path) -> None:
    assert footprint.memory(tmp_path) is None
