"""A recommender's network by another engine than torch in float64: the same scores but for rounding, in less time.

ONNX Runtime has no Erf in float64, which GELU needs, so none of its graphs gives torch's lists to the last digit: how
they are got all the same is in `jobs.recommend.settled`.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jobs.recommend.model import Recommender, pack

Array = np.ndarray[Any, Any]
Hidden = Callable[[Tensor, Tensor], Tensor]  # rows (B, L) and the index of each one's last position (B,) to (B, D)
_OPSET = 17
_AXES = {"rows": {0: "batch", 1: "length"}, "last": {0: "batch"}, "hidden": {0: "batch"}}


class Engine:
    """See jobs.recommend.ranker.Ranker: a copy of a network in float32, whose hidden vectors come from elsewhere."""

    def __init__(self, network: Recommender, hidden: Hidden | None = None) -> None:
        self.network = network
        self._hidden = hidden or network.encode
        self.name, self.items, self.device = network.name, network.items, network.device

    @torch.inference_mode()
    def scores(self, histories: Sequence[Array]) -> Tensor:
        """See Ranker."""
        rows, last = pack(histories, self.network.shape)
        return self.network.score(self._hidden(rows, last))


class _LastHidden(nn.Module):
    def __init__(self, network: Recommender) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor, last: Tensor) -> Tensor:
        return self.network.encode(rows, last)


def by_torch(network: Recommender) -> Engine:
    """torch itself, in float32."""
    return Engine(_single(network))


def by_onnx(network: Recommender) -> Engine:
    """ONNX Runtime in float32."""
    single = _single(network)
    with tempfile.TemporaryDirectory() as folder:
        return Engine(single, _session(_export(single, Path(folder))))


def by_int8(network: Recommender) -> Engine:
    """ONNX Runtime with dynamic INT8 in the network's products; items are scored in float32."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    single = _single(network)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        graph = _export(single, Path(folder))
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it tells the root logger what it would have one do first
        try:
            quantize_dynamic(graph, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
        finally:
            logging.disable(before)
        return Engine(single, _session(path))


ENGINES: dict[str, Callable[[Recommender], Engine]] = {"torch-fp32": by_torch, "onnx": by_onnx, "int8": by_int8}


def _single(network: Recommender) -> Recommender:
    return copy.deepcopy(network).float().eval().requires_grad_(False)


def _export(network: Recommender, folder: Path) -> Path:
    """The graph of the last position's hidden vector, for any number and length of rows."""
    path = folder / "network.onnx"
    sample = pack([np.zeros(length, dtype=np.int64) for length in (3, 2)], network.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is on its way out, and that it traces
        torch.onnx.export(
            _LastHidden(network).eval(), sample, str(path), dynamo=False, input_names=["rows", "last"],
            output_names=["hidden"], dynamic_axes=_AXES, opset_version=_OPSET,
        )  # fmt: skip
    return path


def _session(path: Path) -> Hidden:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other processes need the cores
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda rows, last: torch.from_numpy(session.run(None, {"rows": rows.numpy(), "last": last.numpy()})[0])
