"""The trial of candidates, on a tiny transformer and a BiLSTM: who is refused, what is measured, who is chosen."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from jobs.compress import artifact, candidates, vocabulary
from jobs.compress.candidates import Candidate, Unavailable
from jobs.compress.gate import Gate, stratified
from jobs.compress.trial import Outcome, Trial, compare
from jobs.text import export, runtime, students
from jobs.text.artifact import Loaded
from jobs.text.data import Split
from jobs.text.network import Classifier
from tests.unit.text import tiny

INT8 = ("int8", "int8-channel", "int8-channel-7bit", "uint8")


def loaded(model: torch.nn.Module, tokenizer: object) -> Loaded:
    facts = {"architecture": "tiny", "classes": list(tiny.CLASSES), "reading": {"max_length": 24, "prefix": ""}}
    return Loaded(model.eval(), tokenizer, tiny.CLASSES, facts, torch.device("cpu"))


@pytest.fixture(scope="module")
def transformer() -> Loaded:
    encoder = tiny.encoder()
    model = Classifier(encoder.model, 2)
    with torch.no_grad():  # as wide apart as a trained one's, or each rounding changes the class
        model.head.weight.mul_(10)
    return loaded(model, encoder.tokenizer)


@pytest.fixture(scope="module")
def sample(transformer: Loaded) -> Split:
    """Texts with the classes that the network gives them: it is never wrong, and only its copies can be."""
    texts = tuple(text for text, _ in tiny.rows(150, seed=9))
    return Split(texts, transformer.logits(texts).argmax(axis=1))


def saturating(source: Path, path: Path) -> None:
    """INT8 whose weights' scales are a hundredth of what they should be, as when sums run over their type's end."""
    candidates.quantize(source, path)
    model = onnx.load(path)
    scales = [each for each in model.graph.initializer if each.name.endswith("_scale")]
    for each in scales[-4:]:
        each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each) * np.float32(0.01), each.name))
    onnx.save(model, path)


@pytest.fixture(scope="module")
def outcome(transformer: Loaded, sample: Split, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("candidates")
    gate = Gate(tolerance=5, agreement=0.9)  # of a network this small, INT8 is a coarse picture
    return compare(transformer, sample, folder, gate, most_s=0.5, planted={"planted": saturating})


def test_every_candidate_is_judged_and_measured(outcome: Outcome) -> None:
    names = [trial.name for trial in outcome.trials]

    assert names[:4] == ["torch", "torch-int8", "onnx", "onnx-fused"]
    assert set(INT8) < set(names)
    assert outcome.of("torch").speedup_b1 == outcome.of("torch").speedup_b32 == 1
    for trial in outcome.trials:
        assert trial.accuracy is not None, trial
        assert trial.p99_ms >= trial.p50_ms > 0, trial
    for name in ("onnx", "onnx-fused"):
        assert (outcome.of(name).refused, outcome.of(name).agreement) == (None, 1)
    assert outcome.of("int8").size_mb < outcome.of("onnx").size_mb


def test_a_planted_candidate_that_saturates_is_refused_by_the_gate(outcome: Outcome) -> None:
    planted = outcome.of("planted")

    assert planted.drop_points > 5
    assert planted.refused == f"accuracy falls by {planted.drop_points:.2f} points, more than 5"
    assert outcome.choose().name != "planted"


def test_fused_attention_gives_the_same_logits(transformer: Loaded, outcome: Outcome, sample: Split) -> None:
    graph = onnx.load(outcome.files["onnx-fused"]).graph

    assert [node.op_type for node in graph.node].count("Attention") == 3
    predictor = artifact_of(outcome.files["onnx-fused"], transformer)
    np.testing.assert_allclose(predictor.logits(sample.texts), outcome.reference, atol=1e-4)


def artifact_of(graph: Path, network: Loaded) -> runtime.Predictor:
    return artifact.lay_out(graph.parent, network, graph)


def test_what_is_stored_answers_without_its_network_and_carries_a_probe(
    transformer: Loaded, outcome: Outcome, sample: Split, tmp_path: Path
) -> None:
    made = artifact.lay_out(tmp_path, transformer, outcome.files["int8"])
    artifact.keep_probe(tmp_path, made, sample.texts, outcome.reference)
    artifact.seal(tmp_path, made, {}, candidates=outcome.json("int8"))

    predictor = runtime.Predictor.load(tmp_path)

    assert predictor.verify(tmp_path) == json.loads((tmp_path / "probe.json").read_text())["agreement"] >= 0.9
    assert set(predictor.manifest["files"]) == {"model.onnx", "tokenizer.json", "probe.json"}
    assert [row["name"] for row in predictor.manifest["candidates"] if row["chosen"]] == ["int8"]
    assert predictor.manifest["machine"]["cores"] >= 1


def test_the_lstm_of_a_student_and_its_embeddings_become_int8(tmp_path: Path, sample: Split) -> None:
    student = students.make("bilstm", "small", {}, sample.texts, 2)
    found = {
        each.name: each
        for each in candidates.candidates(loaded(student.model, student.tokenizer), sample.texts, tmp_path)
    }

    assert "onnx-fused" not in found
    int8 = found["int8"]
    assert isinstance(int8, Candidate)
    kinds = [node.op_type for node in onnx.load(int8.path).graph.node]
    assert kinds.count("DynamicQuantizeLSTM") == 2
    assert int8.size_bytes < 0.4 * found["onnx"].size_bytes


def test_one_that_cannot_be_made_is_said_and_the_others_go_on(
    transformer: Loaded, sample: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source: Path, path: Path, **of: object) -> None:
        raise RuntimeError("no such kernel\nhere")

    monkeypatch.setattr(candidates, "fuse", broken)

    first = itertools.islice(candidates.candidates(transformer, sample.texts, tmp_path), 5)
    found = {each.name: each for each in first}

    assert found["onnx-fused"] == Unavailable("onnx-fused", "no such kernel")
    assert isinstance(found["int8"], Candidate)


def trials(**speeds: tuple[float, float, float]) -> Outcome:
    """By name: speed-up at batch 1, speed-up at batch 32, megabytes; agreements rise in their order."""
    made = tuple(
        Trial(name, "int8", size_mb=size, speedup_b1=one, speedup_b32=many, agreement=0.96 + number / 1000)
        for number, (name, (one, many, size)) in enumerate(speeds.items())
    )
    return Outcome(made, dict.fromkeys(speeds, Path("graph")), np.zeros((1, 2)))


@pytest.mark.parametrize(("prefer", "name"), [("latency", "b"), ("throughput", "a"), ("size", "c")])
def test_the_choice_goes_by_what_is_preferred(prefer: str, name: str) -> None:
    assert trials(a=(2, 3, 25), b=(3, 2, 25), c=(1, 1, 20)).choose(prefer).name == name


def test_of_those_that_are_as_fast_the_one_that_agrees_most_is_chosen() -> None:
    assert trials(a=(3.0, 1, 25), b=(2.9, 1, 25), c=(2.5, 1, 25)).choose().name == "b"


def test_when_none_passes_all_reasons_are_given() -> None:
    refused = Outcome((Trial("int8", "int8", refused="it is slow"), Trial("torch", "fp32")), {}, np.zeros((1, 2)))

    with pytest.raises(ValueError, match=r"no candidate passes \(int8: it is slow\): give a larger tolerance"):
        refused.choose()


def logits(*classes: int) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[list(classes)]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (logits(0, 1, 2, 0), None),
        (logits(0, 1, 2, 1), "accuracy falls by 25.00 points, more than 0.5"),
        (logits(1, 1, 0, 0), "agrees with float32 on 50.00% of the texts, fewer than 96%"),
        (np.where(logits(0, 1, 2, 0) > 0, np.inf, 0), "its logits are not finite numbers"),
    ],
)
def test_the_gate_asks_for_accuracy_and_for_the_same_answers(found: np.ndarray, reason: str | None) -> None:
    labels = np.array([1, 1, 2, 0])  # the network is wrong about the first

    assert Gate().judge(found, logits(0, 1, 2, 0), labels).reason == reason


def test_a_sample_has_of_each_class_its_share() -> None:
    split = Split(tuple(map(str, range(1000))), np.array([0] * 900 + [1] * 100))

    chosen = stratified(split, 100)

    assert np.bincount(chosen.labels).tolist() == [90, 10]
    assert [split.labels[int(text)] for text in chosen.texts] == chosen.labels.tolist()
    assert stratified(split, 1000) is split


def test_a_smaller_vocabulary_answers_the_same_about_what_it_knows(transformer: Loaded, tmp_path: Path) -> None:
    texts = ["good book", "bad room", "the book"]

    small, kept = vocabulary.compacted(transformer, texts)

    assert kept == 5 + 4  # words, and the special pieces
    np.testing.assert_allclose(small.logits(texts), transformer.logits(texts), atol=1e-6)
    np.testing.assert_allclose(small.logits(["ugly"]), transformer.logits(["unheard"]), atol=1e-6)
    export.export(small, tmp_path / "small.onnx", texts)
    export.export(transformer, tmp_path / "whole.onnx", texts)
    assert (tmp_path / "small.onnx").stat().st_size < (tmp_path / "whole.onnx").stat().st_size
