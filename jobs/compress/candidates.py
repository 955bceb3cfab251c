"""The forms that a classifier could answer in: ONNX graphs plain, fused and in INT8, and torch's own."""

from __future__ import annotations

import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from broker.errors import summary
from jobs.text import runtime
from jobs.text.artifact import Loaded
from jobs.text.export import ExportError, export
from jobs.text.network import Classifier

Array = np.ndarray[Any, Any]
Forward = Callable[[Array, Array], Array]  # (B, L) ids and mask to (B, C) logits
Build = Callable[[Path, Path], None]  # reads the float32 graph, writes the candidate

REFERENCE, PLAIN, FUSED, TORCH_INT8 = "torch", "onnx", "onnx-fused", "torch-int8"


@dataclass(frozen=True)
class Candidate:
    name: str
    precision: str  # "fp32" or "int8"
    forward: Forward
    size_bytes: int
    load_s: float
    path: Path | None = None  # None: it has no file of its own, and is there to be compared with


@dataclass(frozen=True)
class Unavailable:
    name: str
    reason: str


# Which kernel is fast and right depends on the CPU: without VNNI the products of u8 activations and s8 weights are
# added in pairs as int16 and saturate, unless the weights keep to 7 bits (reduce_range) or are unsigned too.
_INT8: Mapping[str, Mapping[str, Any]] = {
    "int8": {},
    "int8-channel": {"per_channel": True},
    "int8-channel-7bit": {"per_channel": True, "reduce_range": True},
    "uint8": {"signed": False},
    "int8-channel-mixed": {"per_channel": True, "keep": True},  # the last resort: FFN outputs, where outliers are
}


def candidates(
    loaded: Loaded,
    texts: Sequence[str],
    folder: Path,
    planted: Mapping[str, Build] | None = None,
    drawn: Loaded | None = None,
) -> Iterator[Candidate | Unavailable]:
    """torch's network first, then all that can be made of it, written into the folder one after the other.

    `planted`: further ones by name, as a test of the gate has them. `drawn`: what the graphs are of, if not the network
    itself. Raises ExportError where there is no ONNX form.
    """
    weights = 4 * sum(each.numel() for each in loaded.model.parameters())
    yield Candidate(REFERENCE, "fp32", by_torch(loaded.model), weights, 0.0)
    yield _torch_int8(loaded.model)
    plain = folder / f"{PLAIN}.onnx"
    export(drawn or loaded, plain, texts)
    yield _opened(PLAIN, "fp32", plain)
    base = plain
    if isinstance(loaded.model, Classifier):
        found = _built(FUSED, "fp32", plain, folder, partial(fuse, model=loaded.model))
        base = found.path if isinstance(found, Candidate) and found.path else plain
        yield found
    for name, options in _INT8.items():
        if "keep" not in options or isinstance(loaded.model, Classifier):
            yield _built(name, "int8", base, folder, partial(quantize, **options))
    for name, build in (planted or {}).items():
        yield _built(name, "int8", base, folder, build)


def fuse(source: Path, path: Path, *, model: Classifier) -> None:
    """Attention, GELU, and LayerNorm with its sum as one node each: onnxruntime.transformers. Raises ExportError.

    The graph is the model's; it does not tell how many heads there are, so the model is asked.
    """
    from onnxruntime.transformers import optimizer  # takes a second

    config: Any = model.upper.config
    with _silent():
        # opt_level 0: what the session does at load is left to it
        made = optimizer.optimize_model(
            str(source), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size, opt_level=0
        )
        counts = made.get_fused_operator_statistics()
        if not counts["Attention"] and not counts["SkipLayerNormalization"]:
            raise ExportError("no layer of this architecture is known to ONNX Runtime's fusions")
        made.save_model_to_file(str(path))


def quantize(
    source: Path, path: Path, *, per_channel: bool = False, reduce_range: bool = False, signed: bool = True,
    keep: bool = False,
) -> None:  # fmt: skip
    """Dynamic INT8 of every kind of node that has it: MatMul, Attention, LSTM, and Gather, which embeddings are.

    reduce_range: weights of 7 bits. keep: the matrices that narrow, such as a feed-forward layer's second, stay.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _silent():
        quantize_dynamic(
            source, path, per_channel=per_channel, reduce_range=reduce_range,
            weight_type=QuantType.QInt8 if signed else QuantType.QUInt8,
            nodes_to_exclude=_narrowing(source) if keep else None,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # fused nodes hide the types it infers
        )  # fmt: skip


def by_torch(model: nn.Module) -> Forward:
    def forward(ids: Array, mask: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy())

    return forward


def by_onnx(session: Any) -> Forward:
    return lambda ids, mask: runtime.run(session, ids, mask)


def _torch_int8(model: nn.Module) -> Candidate | Unavailable:
    """torch.ao's dynamic INT8: deprecated, pickled when saved, and often the least accurate: to compare with."""
    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError:
        return Unavailable(TORCH_INT8, f"torch {torch.__version__} has no torch.ao.quantization any more")
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = quantize_dynamic(model, {nn.Linear, nn.LSTM}, dtype=torch.qint8)
        except RuntimeError as error:  # a build without an INT8 engine
            return Unavailable(TORCH_INT8, summary(error))
    buffer = io.BytesIO()
    torch.save(made.state_dict(), buffer)  # to know its size
    return Candidate(TORCH_INT8, "int8", by_torch(made), buffer.tell(), time.perf_counter() - begin)


def _built(name: str, precision: str, source: Path, folder: Path, build: Build) -> Candidate | Unavailable:
    path = folder / f"{name}.onnx"
    try:
        build(source, path)
        return _opened(name, precision, path)
    except Exception as error:  # one that cannot be made is no reason to do without the others
        path.unlink(missing_ok=True)
        return Unavailable(name, summary(error))


def _opened(name: str, precision: str, path: Path) -> Candidate:
    begin = time.perf_counter()
    session = runtime.session(path, torch.get_num_threads())
    return Candidate(name, precision, by_onnx(session), path.stat().st_size, time.perf_counter() - begin, path)


def _narrowing(source: Path) -> list[str]:
    """The products with a constant matrix that has more rows than columns."""
    graph = onnx.load(source, load_external_data=False).graph
    shapes = {each.name: list(each.dims) for each in graph.initializer}
    found = [node for node in graph.node if node.op_type == "MatMul" and len(shapes.get(node.input[1], [])) == 2]
    return [node.name for node in found if shapes[node.input[1]][0] > shapes[node.input[1]][1]]


@contextmanager
def _silent() -> Iterator[None]:
    """Both tools talk to the root logger about what is known here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
