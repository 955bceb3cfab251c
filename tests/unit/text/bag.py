"""A bag of words in ONNX form, made on the spot without torch: the mean of its words' vectors, and a layer on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

Array = np.ndarray[Any, Any]


def write(
    folder: Path, words: Sequence[str], vectors: Array, weights: Array, classes: Sequence[str], max_length: int = 16
) -> Path:
    """The artifact's folder; vectors (2 + words, D) for padding, the unknown and each word, weights (D, C)."""
    folder.mkdir(parents=True)
    onnx.save(_graph(vectors.astype(np.float32), weights.astype(np.float32)), folder / "model.onnx")
    numbers = {word: number for number, word in enumerate(("[PAD]", "[UNK]", *words))}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    facts = {
        "kind": "classify",
        "form": "onnx",
        "role": "student",
        "architecture": f"bag of {len(words):,} words",
        "classes": list(classes),
        "reading": {"max_length": max_length, "prefix": "", "pad": 0},
        "parameters": int(vectors.size + weights.size),
    }
    (folder / "manifest.json").write_text(json.dumps(facts))
    return folder


def tiny(folder: Path, good: str = "positive", bad: str = "negative") -> Path:
    """Knows two words, and what they mean."""
    vectors = np.array([[0, 0], [0, 0], [1, 0], [0, 1]])
    return write(folder, ("good", "bad"), vectors, 4 * np.eye(2), (good, bad))


def _graph(vectors: Array, weights: Array) -> onnx.ModelProto:
    given = [("vectors", vectors), ("weights", weights), ("last", np.array([-1])), ("middle", np.array([1]))]
    nodes = [
        helper.make_node("Gather", ["vectors", "ids"], ["found"]),  # (B, L, D)
        helper.make_node("Cast", ["mask"], ["there"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["there", "last"], ["column"]),  # (B, L, 1)
        helper.make_node("Mul", ["found", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),  # (B, D)
        helper.make_node("ReduceSum", ["column", "middle"], ["count"], keepdims=0),  # (B, 1)
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
    ]
    rows, free = [TensorProto.INT64, ("batch", "length")], TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "bag",
        [helper.make_tensor_value_info(name, *rows) for name in ("ids", "mask")],
        [helper.make_tensor_value_info("logits", free, ("batch", weights.shape[1]))],
        [numpy_helper.from_array(value, name) for name, value in given],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
