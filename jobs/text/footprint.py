"""What a stored classifier weighs: on disk, in memory, in weights that are zero, and in arithmetic for each text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from tokenizers import Tokenizer

from jobs.text import runtime
from jobs.training import manifest

log = structlog.get_logger()
Array = np.ndarray[Any, Any]

FLOPS = (
    "2 for each entry of a weight matrix and token (zeros too; the classifier's once a text), 4 L² d for the attention "
    "of a layer, 2 d for each n-gram of a bag; lookups, norms and activations are left out"
)
_MATRICES = ("MatMul", "Gemm", "Attention", "LSTM")  # and whatever of ONNX has one of these in its name
_TIMEOUT_S = 120
_CHILD = """
import json, sys, time
began = time.perf_counter()
from pathlib import Path
from jobs.text.models import open_model
open_model(Path(sys.argv[1])).logits(["a text"])
import psutil
print(json.dumps({"mb": psutil.Process().memory_info().rss / 1e6, "s": time.perf_counter() - began}))
"""


@dataclass(frozen=True)
class Weights:
    """One matrix of a model."""

    values: Array
    zero: int  # what stands for 0.0 in it
    per_token: bool  # multiplied with each token; else once a text
    is_lookup: bool  # an embedding


def disk_mb(folder: Path) -> float:
    """All that is in the artifact: weights, tokenizer, manifest."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def sparsity(folder: Path) -> float | None:
    """Share of the matrices' entries that are zero, embeddings left out; None where there are none."""
    zeros = entries = 0
    for each in weights(folder):
        if not each.is_lookup:
            zeros += int(np.count_nonzero(each.values == each.zero))
            entries += each.values.size
    return zeros / entries if entries else None


def flops(folder: Path, tokens: int) -> int:
    """Floating (or integer) point operations for one text of so many tokens, counted as FLOPS says."""
    network = manifest.read(folder).get("network", {})
    found = sum(2 * each.values.size * (tokens if each.per_token else 1) for each in weights(folder)
                if not each.is_lookup)  # fmt: skip
    if network.get("kind") == "transformer":
        found += 4 * tokens**2 * (network.get("width") or 0) * (network.get("layers") or 0)
    if "ngrams" in str(network.get("kind")):
        found += 2 * network.get("longest", 3) * tokens * (network.get("bag") or network.get("width") or 0)
    return found


def tokens(folder: Path, texts: Sequence[str]) -> int:
    """The tokens of the median text, as the model reads it."""
    reading = manifest.read(folder)["reading"]
    path = next(path for path in (folder / runtime.TOKENIZER, folder / "encoder" / runtime.TOKENIZER) if path.is_file())
    reader = runtime.Reader(Tokenizer.from_file(str(path)), reading["max_length"], 0, reading["prefix"])
    return int(np.median([len(row) for row in reader.rows(texts).ids]))


def memory(folder: Path) -> dict[str, float] | None:
    """{"mb": resident, "s": from the start to the first answer} of a fresh process with this model only; None: failed.

    What the interpreter and the libraries take is part of it.
    """
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(folder.absolute())],
            capture_output=True, text=True, timeout=_TIMEOUT_S, check=True, env=os.environ | {"PYTHONPATH": paths},
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        log.warning("memory_not_measured", folder=folder.name, reason=str(getattr(error, "stderr", error))[-300:])
        return None


def weights(folder: Path) -> Iterator[Weights]:
    """The matrices of a model in either form, a few at a time in memory."""
    return _onnx(folder / runtime.MODEL) if (folder / runtime.MODEL).is_file() else _torch(folder)


def _torch(folder: Path) -> Iterator[Weights]:
    from safetensors import safe_open

    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # it is no dict, and cannot be iterated
            for name in names:
                if len(file.get_slice(name).get_shape()) < 2:
                    continue
                values = file.get_tensor(name).float().numpy()
                is_head = path.stem == "head" or name == "head.weight" or name.endswith(".head.weight")
                yield Weights(values, 0, not is_head, "embed" in name or "table" in name)


def _onnx(path: Path) -> Iterator[Weights]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    stored = {each.name: each for each in graph.initializer}
    passed: dict[str, str] = {}  # a weight's name after it was only reshaped or made float again
    found: list[tuple[str, Any]] = []
    for node in graph.node:
        # of an LSTM the second and third are its weights; biases and scales have two dimensions as well
        for name in node.input[1:3] if "LSTM" in node.op_type else node.input:
            source = passed.get(name, name)
            if source not in stored or len(stored[source].dims) < 2:
                continue
            if node.op_type in ("DequantizeLinear", "Transpose", "Cast", "Identity", "Squeeze", "Unsqueeze"):
                passed[node.output[0]] = source
            else:
                found.append((source, node))
    last = next((name for name, node in reversed(found) if _multiplies(node)), None)
    for name in dict.fromkeys(name for name, _ in found):
        values = numpy_helper.to_array(stored[name])
        nodes = [node for each, node in found if each == name]
        yield Weights(values, 128 if values.dtype == np.uint8 else 0, name != last, not any(map(_multiplies, nodes)))


def _multiplies(node: Any) -> bool:
    return any(kind in node.op_type for kind in _MATRICES)
