"""The trial of all candidates on this machine: who is right, who is fast, and who is therefore chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jobs.compress import measure
from jobs.compress.candidates import REFERENCE, Build, Candidate, Unavailable, candidates
from jobs.compress.gate import Gate
from jobs.text import runtime
from jobs.text.artifact import Loaded
from jobs.text.data import Split

Array = np.ndarray[Any, Any]
Prefer = Literal["latency", "throughput", "size"]

_AS_FAST = 0.95  # of the fastest's: what is left is noise, so the one that agrees more is taken
_TIMED = 256  # texts, from which the timed ones are taken


@dataclass(frozen=True)
class Trial:
    """One candidate. Times and speed-ups are against torch's network in float32 in the same rounds."""

    name: str
    precision: str
    refused: str | None = None
    chosen: bool = False
    size_mb: float | None = None
    size_ratio: float | None = None  # of the weights in float32
    load_s: float | None = None
    accuracy: float | None = None
    drop_points: float | None = None
    agreement: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    speedup_b1: float | None = None
    batch_ms: float | None = None
    texts_per_s: float | None = None
    speedup_b32: float | None = None


@dataclass(frozen=True)
class Outcome:
    trials: tuple[Trial, ...]
    files: Mapping[str, Path]  # of those that have one
    reference: Array  # (N, C) logits of the sample by torch in float32

    def of(self, name: str) -> Trial:
        return next(trial for trial in self.trials if trial.name == name)

    def json(self, chosen: str | None = None) -> list[dict[str, Any]]:
        """What a manifest says of them: those that can be used first, the fastest of them first."""
        found = sorted(self.trials, key=lambda each: (each.refused is not None, -(each.speedup_b1 or 0)))
        return [_rounded(asdict(replace(each, chosen=each.name == chosen))) for each in found]

    def choose(self, prefer: Prefer = "latency") -> Trial:
        """The best that passed and has a file. Raises ValueError with the reasons where there is none."""
        passed = [each for each in self.trials if each.refused is None and each.name in self.files]
        if not passed:
            reasons = "; ".join(f"{each.name}: {each.refused}" for each in self.trials if each.refused)
            raise ValueError(f"no candidate passes ({reasons}): give a larger tolerance, or a smaller agreement")
        value: Callable[[Trial], float] = {
            "latency": lambda each: each.speedup_b1 or 0.0,
            "throughput": lambda each: each.speedup_b32 or 0.0,
            "size": lambda each: 1 / (each.size_mb or np.inf),
        }[prefer]
        best = max(map(value, passed))
        return max((each for each in passed if value(each) >= _AS_FAST * best), key=lambda each: each.agreement or 0.0)


def compare(
    loaded: Loaded,
    sample: Split,
    folder: Path,
    gate: Gate | None = None,
    *,
    most_s: float = 30,
    planted: Mapping[str, Build] | None = None,
    drawn: Loaded | None = None,
    tell: Callable[[str], None] = lambda name: None,
) -> Outcome:
    """Makes the candidates in the folder, judges them on the sample, and times all of them turn by turn.

    most_s: seconds of the timing at batch 1, and again at batch 32. planted, drawn: see `candidates`. tell: called with
    each candidate's name.
    Raises ExportError where the network has no ONNX form.
    """
    gate = gate or Gate()
    reader = runtime.Reader.of(loaded.tokenizer, loaded.manifest["reading"])
    rows = reader.rows(sample.texts).ids
    made: list[Candidate] = []
    judged: dict[str, Trial] = {}
    reference: Array | None = None
    for each in candidates(loaded, sample.texts, folder, planted, drawn):
        tell(each.name)
        if isinstance(each, Unavailable):
            judged[each.name] = Trial(each.name, "", refused=each.reason)
            continue
        found = measure.logits(each.forward, rows, reader.pad)
        reference = found if reference is None else reference
        verdict = gate.judge(found, reference, sample.labels)
        made.append(each)
        judged[each.name] = Trial(
            each.name, each.precision, verdict.reason, size_mb=each.size_bytes / 1e6,
            size_ratio=each.size_bytes / made[0].size_bytes, load_s=each.load_s, accuracy=verdict.accuracy,
            drop_points=verdict.drop_points, agreement=verdict.agreement,
        )  # fmt: skip
    assert reference is not None  # torch's own is always the first
    tell("timing")
    trials = _timed(judged, made, rows, reader.pad, most_s)
    return Outcome(tuple(trials), {each.name: each.path for each in made if each.path}, reference)


def _timed(
    judged: Mapping[str, Trial], made: Sequence[Candidate], rows: Sequence[Array], pad: int, most_s: float
) -> list[Trial]:
    forwards = {each.name: each.forward for each in made}
    few = rows[:: max(1, len(rows) // _TIMED)]
    one = measure.single(forwards, few, pad, most_s=most_s)
    many = measure.batched(forwards, few, pad, most_s=most_s)
    texts = min(measure.BATCH, len(few))
    return [
        trial if name not in forwards else replace(
            trial, p50_ms=one[name].p50_ms, p99_ms=one[name].p99_ms, speedup_b1=one[name].speedup,
            batch_ms=many[name].p50_ms, texts_per_s=1e3 * texts / many[name].p50_ms, speedup_b32=many[name].speedup,
        )
        for name, trial in judged.items()
    ]  # fmt: skip


def _rounded(value: dict[str, Any]) -> dict[str, Any]:
    return {name: round(each, 3) if isinstance(each, float) else each for name, each in value.items()}


__all__ = ["REFERENCE", "Outcome", "Prefer", "Trial", "compare"]
