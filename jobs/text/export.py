"""A torch classifier as an ONNX graph of free batch and length, checked number by number against torch."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from broker.errors import summary
from jobs.text import runtime
from jobs.text.artifact import Loaded

DIFFERENCE = 1e-3  # of a logit, at most, between torch and the graph
OPSET = 17
_CHECKED, _BATCH = 64, 16  # texts, and of a batch: of unlike lengths, as the padded rows are what goes wrong
_AXES = {"ids": {0: "batch", 1: "length"}, "mask": {0: "batch", 1: "length"}, "logits": {0: "batch"}}


class ExportError(ValueError):
    """A network that has no ONNX form, or whose ONNX form computes something else."""


@dataclass(frozen=True)
class Exported:
    difference: float  # largest of a logit from torch's
    exporter: str  # "torchscript", or "dynamo" where torch has that no more


def export(loaded: Loaded, path: Path, texts: Sequence[str], limit: float = DIFFERENCE) -> Exported:
    """Writes the graph, ids and mask (B, L) int64 to logits (B, C), and checks it on real texts, `limit` at most.

    Attention is written out ("eager") for the trace, as only then ONNX Runtime knows its layers again and fuses them;
    torch's newer exporter gives graphs that do not fuse at all, measured. Raises ExportError.
    """
    model = copy.deepcopy(loaded.model).cpu().eval().requires_grad_(False)
    for module in model.modules():
        if hasattr(module, "set_attn_implementation"):
            module.set_attn_implementation("eager")
    rows, pad = _rows(loaded, texts)
    sample = [torch.from_numpy(each) for each in runtime.padded([*rows[:3], *rows[:1]], pad)]
    used = _write(model, (sample[0], sample[1]), path)
    return Exported(check(loaded, path, texts, limit), used)


def check(loaded: Loaded, path: Path, texts: Sequence[str], limit: float = DIFFERENCE) -> float:
    """The largest difference of a logit between the graph and torch, on batches of 1 and of texts of unlike lengths.

    Raises ExportError above the limit, and where ONNX Runtime cannot run the graph.
    """
    try:
        session = runtime.session(path)
    except Exception as error:  # onnxruntime's errors have no common type of their own
        said = f"ONNX Runtime cannot run the graph ({summary(error)}): use the network in torch's form"
        raise ExportError(said) from error
    rows, pad = _rows(loaded, texts)
    largest = 0.0
    for batch in [rows[begin : begin + _BATCH] for begin in range(0, len(rows), _BATCH)] + [rows[:1]]:
        ids, mask = runtime.padded(batch, pad)
        with torch.inference_mode():
            given = [torch.from_numpy(each).to(loaded.device) for each in (ids, mask)]
            expected = loaded.model(*given).cpu().numpy()
        largest = max(largest, float(np.abs(runtime.run(session, ids, mask) - expected).max()))
    if not largest <= limit:
        said = f"the ONNX graph's logits differ by {largest:.2g} from torch's, more than {limit:g}"
        raise ExportError(f"{said}: use the network in torch's form")
    return largest


def _rows(loaded: Loaded, texts: Sequence[str]) -> tuple[list[np.ndarray[Any, Any]], int]:
    reader = runtime.Reader.of(loaded.tokenizer, loaded.manifest["reading"])
    return reader.rows(list(texts[:_CHECKED]) or ["a"]).ids, reader.pad


def _write(model: nn.Module, sample: tuple[Tensor, Tensor], path: Path) -> str:
    names: dict[str, Any] = {"input_names": ["ids", "mask"], "output_names": ["logits"], "opset_version": OPSET}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that this exporter is on its way out, and that it traces
        try:
            torch.onnx.export(model, sample, str(path), dynamo=False, dynamic_axes=_AXES, **names)
            return "torchscript"
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"{summary(error)}: this network has no ONNX form, use it in torch's") from error
        except (TypeError, ImportError, AttributeError) as error:
            if importlib.util.find_spec("onnxscript") is None:
                raise ExportError(
                    f"torch {torch.__version__} has no TorchScript exporter any more ({summary(error)}): "
                    "pip install onnxscript for the newer one, or take torch 2.13"
                ) from error
        try:
            axes = {name: {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO} for name in ("ids", "mask")}
            shapes = (axes["ids"], axes["mask"])
            torch.onnx.export(
                model, sample, str(path), dynamo=True, dynamic_shapes=shapes, external_data=False, **names
            )
        except Exception as error:  # the newer exporter's own errors are not public names
            raise ExportError(f"{summary(error)}: this network has no ONNX form, use it in torch's") from error
        return "dynamo"
