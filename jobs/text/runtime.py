"""A classifier on ONNX Runtime: numpy and tokenizers beside it and nothing else, so that a worker needs no torch.

model.onnx       inputs ids and mask (B, L) int64, output logits (B, C)
tokenizer.json   of tokenizers
probe.json       of a quantized one: some texts and what the float32 network says of them
manifest.json
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
import structlog
from tokenizers import Tokenizer

from broker.errors import summary
from jobs.text import machine
from jobs.text.metrics import softmax
from jobs.training import manifest

log = structlog.get_logger()
Array = np.ndarray[Any, Any]

FORM = "onnx"
MODEL, TOKENIZER, PROBE = "model.onnx", "tokenizer.json", "probe.json"
LOST = 0.02  # of the probe's texts may change their class on a machine of other instructions
_BATCH = 32
_TOKENIZED = 4096  # texts at once: what the tokenizer says of each is far larger than its ids
_CHARACTERS = 64  # for each token, as jobs/text/tokens.py has it: what lies behind is not looked at


class WrongMachine(ValueError):
    """An INT8 model that computes something else here than where it was made."""


@dataclass(frozen=True)
class Rows:
    """Texts as token ids, ragged."""

    ids: list[Array]  # each (L,) int64
    cut: list[bool]  # whether the text was longer than is read


class Reader:
    """Texts to the very ids that the training's tokenizer gives."""

    def __init__(self, tokenizer: Tokenizer, longest: int, pad: int, prefix: str = "") -> None:
        """longest: tokens of a text, those that mark begin and end included."""
        tokenizer.no_padding()
        tokenizer.enable_truncation(longest)
        self._tokenizer, self._longest, self.pad, self._prefix = tokenizer, longest, pad, prefix

    @classmethod
    def of(cls, tokenizer: Any, reading: Mapping[str, Any]) -> Self:
        """Of transformers' fast tokenizer, whose own settings stay as they are, and a manifest's "reading"."""
        copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        return cls(copy, reading["max_length"], int(tokenizer.pad_token_id), reading["prefix"])

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any]) -> Self:
        reading = facts["reading"]
        # the library's errors are plain Exceptions: a file that is not there is told apart first
        text = (folder / TOKENIZER).read_text(encoding="utf-8")
        return cls(Tokenizer.from_str(text), reading["max_length"], reading["pad"], reading["prefix"])

    def rows(self, texts: Sequence[str]) -> Rows:
        characters = self._longest * _CHARACTERS
        ids: list[Array] = []
        cut: list[bool] = []
        for begin in range(0, len(texts), _TOKENIZED):
            whole = [self._prefix + text for text in texts[begin : begin + _TOKENIZED]]
            done = self._tokenizer.encode_batch_fast([text[:characters] for text in whole])
            ids += [np.array(each.ids or [self.pad], dtype=np.int64) for each in done]
            cut += [bool(each.overflowing) or len(text) > characters for each, text in zip(done, whole, strict=True)]
        return Rows(ids, cut)


class Predictor:
    """A text classifier that is ready to answer; one call at a time uses all its threads."""

    def __init__(self, session: Any, reader: Reader, facts: dict[str, Any]) -> None:
        self.manifest, self.classes = facts, tuple(facts["classes"])
        self._session, self._reader = session, reader

    @classmethod
    def load(cls, folder: Path, threads: int | None = None) -> Self:
        """threads: of one forward pass; None takes OMP_NUM_THREADS, or as many as there are cores.

        A model that was quantized on a machine of other instructions answers its probe first.
        Raises ValueError for a folder that holds no usable model, WrongMachine where the probe fails.
        """
        folder = Path(folder)
        try:
            facts = manifest.read(folder)
            loaded = cls(session(folder / MODEL, threads), Reader.load(folder, facts), facts)
        except Exception as error:  # onnxruntime's and tokenizers' errors have no common type of their own
            said = summary(error)
            raise ValueError(f"{folder.name} holds no usable ONNX classifier ({said}): compress it again") from error
        if (made_on := facts.get("machine")) and (folder / PROBE).is_file() and not machine.is_like(made_on):
            loaded.verify(folder)
        return loaded

    def logits(self, texts: Sequence[str]) -> Array:
        """(N, C) float32 in the texts' order."""
        return self._run(self._reader.rows(texts).ids)

    def predict(self, texts: Sequence[str], top_k: int = 1) -> list[dict[str, Any]]:
        """For each text {"label", "probability", "top": the `top_k` best, "truncated": its end was not read}."""
        rows = self._reader.rows(texts)
        return answers(self._run(rows.ids), self.classes, rows.cut, top_k)

    def verify(self, folder: Path) -> float:
        """The share of the probe's texts that get the class of the float32 network. Raises WrongMachine."""
        probe = json.loads((folder / PROBE).read_text(encoding="utf-8"))
        expected = np.array(probe["logits"], dtype=np.float32)  # (N, C)
        found = float((self.logits(probe["texts"]).argmax(axis=1) == expected.argmax(axis=1)).mean())
        made_on = self.manifest["machine"]
        if found < probe["agreement"] - LOST:
            raise WrongMachine(
                f"this INT8 model agrees with float32 on {found:.1%} of its probe here, {probe['agreement']:.1%} where "
                f"it was made ({machine.name(made_on)}): run compress.quantize on a machine like this one "
                f"({machine.name(machine.describe())})"
            )
        log.info("model_of_another_machine", made_on=made_on, agreement=found, expected=probe["agreement"])
        return found

    def _run(self, ids: list[Array]) -> Array:
        found = np.empty((len(ids), len(self.classes)), dtype=np.float32)
        order = np.argsort([-len(row) for row in ids], kind="stable")  # of like lengths together: less padding
        for begin in range(0, len(order), _BATCH):
            chosen = order[begin : begin + _BATCH]
            found[chosen] = run(self._session, *padded([ids[row] for row in chosen], self._reader.pad))
        return found


def session(path: Path | str, threads: int | None = None) -> Any:
    """An inference session on the CPU. Its idle threads sleep: other processes need the cores."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or _environment_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: Any, ids: Array, mask: Array) -> Array:
    """(B, C) float32 of (B, L) int64 ids and mask."""
    return np.asarray(session.run(None, {"ids": ids, "mask": mask})[0])


def padded(rows: Sequence[Array], pad: int) -> tuple[Array, Array]:
    """(B, L) ids and mask, L the longest's; padded on the right."""
    lengths = np.array([len(row) for row in rows])
    ids = np.full((len(rows), int(lengths.max())), pad, dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    return ids, (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)


def answers(logits: Array, classes: Sequence[str], cut: Sequence[bool], top_k: int) -> list[dict[str, Any]]:
    """What `predict` gives, of (N, C) logits."""
    if not len(logits):
        return []
    chances = softmax(logits)
    best = np.argsort(-chances, axis=1, kind="stable")[:, :top_k]
    found = []
    for row, order, was_cut in zip(chances, best, cut, strict=True):
        top = [{"label": classes[number], "probability": float(row[number])} for number in order]
        found.append({**top[0], "top": top, "truncated": was_cut})
    return found


def _environment_threads() -> int:
    """OMP_NUM_THREADS, which torch and BLAS go by too; else 0, which is ONNX Runtime's word for all cores."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() else 0
