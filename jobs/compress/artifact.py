"""A classifier's ONNX form as a folder, which jobs/text/runtime.py reads without torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.text import machine, runtime
from jobs.text.artifact import KIND, Loaded
from jobs.training import manifest

Array = np.ndarray[Any, Any]

_LIBRARIES = ("torch", "onnx", "onnxruntime", "tokenizers", "numpy")
_PROBE = 200  # texts; their logits are 10 KB at ten classes
_KEPT = ("classes", "network", "architecture", "parameters", "data", "seed", "calibration")


def lay_out(folder: Path, loaded: Loaded, graph: Path) -> runtime.Predictor:
    """The graph and the tokenizer in the folder, and the predictor that they make; the manifest comes with `seal`."""
    shutil.copyfile(graph, folder / runtime.MODEL)
    loaded.tokenizer.backend_tokenizer.save(str(folder / runtime.TOKENIZER))
    facts = {name: loaded.manifest[name] for name in _KEPT if name in loaded.manifest}
    facts |= {"kind": KIND, "form": runtime.FORM, "role": "compressed", "machine": machine.describe()}
    facts["reading"] = loaded.manifest["reading"] | {"pad": int(loaded.tokenizer.pad_token_id)}
    return runtime.Predictor(runtime.session(folder / runtime.MODEL), runtime.Reader.load(folder, facts), facts)


def keep_probe(folder: Path, predictor: runtime.Predictor, texts: Sequence[str], reference: Array) -> None:
    """An even sample of the texts with the float32 network's (N, C) logits, and how often INT8 agrees here.

    By it another machine sees whether it computes the same.
    """
    rows = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), _PROBE)).astype(int)).tolist()
    chosen, expected = [texts[row] for row in rows], reference[rows]
    agreement = float((predictor.logits(chosen).argmax(axis=1) == expected.argmax(axis=1)).mean())
    probe = {"texts": chosen, "logits": np.round(expected.astype(float), 4).tolist(), "agreement": agreement}
    (folder / runtime.PROBE).write_text(json.dumps(probe, ensure_ascii=False), encoding="utf-8")


def seal(folder: Path, predictor: runtime.Predictor, metrics: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """Write the manifest, and return it; `facts` are further JSON values for it."""
    return manifest.write(folder, predictor.manifest | {"metrics": metrics} | facts, _LIBRARIES)
