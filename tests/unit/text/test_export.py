"""ONNX export: padded rows, students, and what has no ONNX form said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jobs.text import export, runtime, students
from jobs.text.artifact import Loaded
from jobs.text.export import ExportError
from jobs.training import factorised
from tests.unit.text import tiny

TEXTS = [text for text, _ in tiny.rows(40, seed=5)]


def loaded(model: nn.Module, tokenizer: Any = None) -> Loaded:
    facts = {"architecture": "tiny", "classes": list(tiny.CLASSES), "reading": {"max_length": 16, "prefix": ""}}
    return Loaded(model.eval(), tokenizer or tiny.tokenizer(), tiny.CLASSES, facts, torch.device("cpu"))


class Bag(nn.Module):
    """The smallest classifier there is."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, 2)

    def forward(self, ids: Tensor, mask: Tensor, features: Tensor | None = None) -> Tensor:
        return (self.embedding(ids) * mask[:, :, None]).sum(dim=1)


class Decomposing(Bag):
    def forward(self, ids: Tensor, mask: Tensor, features: Tensor | None = None) -> Tensor:
        return torch.linalg.eigvalsh(super().forward(ids, mask)[:, :, None] * torch.ones(1, 1, 2))


class Traced(Bag):
    """Its trace takes a number of the first batch for one of all batches."""

    def forward(self, ids: Tensor, mask: Tensor, features: Tensor | None = None) -> Tensor:
        return super().forward(ids, mask) * float(mask.sum())


@pytest.mark.parametrize("kind", ["bilstm", "ngrams", "ngrams+bilstm", "transformer"])
def test_every_kind_of_student_gives_the_same_logits_whatever_it_is_padded_to(kind: str, tmp_path: Path) -> None:
    made = students.make(kind, "small", {}, TEXTS, 2)
    given = loaded(made.model, made.tokenizer)

    exported = export.export(given, tmp_path / "graph.onnx", TEXTS)

    assert exported.difference < 1e-4
    assert exported.exporter == "torchscript"
    session, reader = (
        runtime.session(tmp_path / "graph.onnx", 1),
        runtime.Reader.of(given.tokenizer, given.manifest["reading"]),
    )
    row = reader.rows(TEXTS[:1]).ids[0]
    alone = runtime.run(session, *runtime.padded([row], reader.pad))
    beside = runtime.run(session, *runtime.padded([row, np.resize(row, 40)], reader.pad))[:1]
    np.testing.assert_allclose(beside, alone, atol=1e-5)


def test_low_rank_layers_have_an_onnx_form(tmp_path: Path) -> None:
    made = students.make("transformer", "small", {}, TEXTS, 2)
    assert factorised.factorise(made.model, ratio=0.25)

    assert export.export(loaded(made.model, made.tokenizer), tmp_path / "graph.onnx", TEXTS).difference < 1e-4


def test_an_operator_without_an_onnx_form_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"linalg_eigvalsh.* this network has no ONNX form") as caught:
        export.export(loaded(Decomposing()), tmp_path / "graph.onnx", TEXTS)

    assert "\n" not in str(caught.value)


def test_a_graph_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"logits differ by .* from torch's, more than 0\.001: use the"):
        export.export(loaded(Traced()), tmp_path / "graph.onnx", TEXTS)


def test_without_torchs_old_exporter_the_newer_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **options: Any) -> None:
        raise TypeError("export() got an unexpected keyword argument 'dynamo'")

    monkeypatch.setattr(torch.onnx, "export", gone)
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ExportError, match=r"has no TorchScript exporter any more .*: pip install onnxscript"):
        export.export(loaded(Bag()), tmp_path / "graph.onnx", TEXTS)
