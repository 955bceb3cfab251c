"""From starting a worker to its first answer, and the memory it has then: with torch, and without.

    python -m benchmarks.start [--encoder minilm] [--rounds 5]

One classifier in two forms: torch's in float32, and the INT8 graph that is made of it. A job waits in Redis; then
`gristmill worker cpu --queue cpu.predict` is started, and the clock runs from there to the answer in this process.
Memory is that of all of the worker's processes (PSS: what they share is counted once). Beside them a worker that runs a
job which does nothing, the floor of both; and the model alone in a bare process. They take turns; medians.
Last line: {"sooner", "memory_share", "sooner_above_floor", "memory_share_above_floor", "sooner_alone",
"memory_share_alone", "seconds": {…}, "processor_s": {…}, "mb": {…}}.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import psutil
from celery.result import AsyncResult

from benchmarks.services import ROOT, services

TORCH, INT8, FLOOR = "torch", "int8", "floor"
COMMAND = [sys.executable, "-m", "workers", "worker", "cpu", "--queue", "cpu.predict", "--processes", "1"]
TEXT = "Compute the eigenvalues of a symmetric matrix."
LIMIT_S = 180.0

Measured = dict[str, float]  # "s", "processor_s" and "mb"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with services(), tempfile.TemporaryDirectory() as made:
        from benchmarks.jobs import noop
        from broker.job import find
        from jobs.text import footprint

        folders = {TORCH: Path(made) / TORCH, INT8: Path(made) / INT8}
        make(given.encoder, folders)
        for name, folder in folders.items():
            register(name, folder)
        predict = find("classify.predict")
        turns: dict[str, Callable[[], Measured | None]] = {
            FLOOR: lambda: worker(lambda: noop.apply_async(queue="cpu.predict")),
            TORCH: lambda: worker(lambda: predict.submit(model=TORCH, text=TEXT)),
            INT8: lambda: worker(lambda: predict.submit(model=INT8, text=TEXT)),
            f"{TORCH} alone": lambda: footprint.memory(folders[TORCH]),
            f"{INT8} alone": lambda: footprint.memory(folders[INT8]),
        }
        for number in range(given.rounds + 1):
            for name, turn in turns.items():
                taken = turn()
                if taken is None:
                    raise SystemExit(f"{name} gave no answer")
                if number:  # the first brings the files into memory
                    for what, value in taken.items():
                        found[what][name].append(value)
                    print(f"{name}: " + ", ".join(f"{value:.2f} {what}" for what, value in taken.items()), flush=True)
    print(json.dumps(summary(found)))


def make(encoder: str, folders: dict[str, Path]) -> None:
    """One network, its head at random: what it answers is of no interest here."""
    from benchmarks.docstrings import docstrings
    from jobs.compress import artifact as compressed
    from jobs.compress.candidates import fuse, quantize
    from jobs.text import artifact
    from jobs.text import encoder as encoders
    from jobs.text.export import export
    from jobs.text.teacher import Teacher
    from jobs.training.engine import Fitted
    from jobs.training.record import Record
    from jobs.training.task import Plan

    dataset = docstrings(train=100)
    task = Teacher(dataset, encoders.load(encoder, dataset.train.texts))
    artifact.save_model(folders[TORCH], task, Fitted(task.model, [], 0, Record(device="cpu")), Plan(), {})
    loaded = artifact.load_model(folders[TORCH])
    folders[INT8].mkdir()
    with tempfile.TemporaryDirectory() as work:
        plain, fused, int8 = (Path(work) / f"{name}.onnx" for name in ("plain", "fused", "int8"))
        export(loaded, plain, dataset.dev.texts)
        fuse(plain, fused, model=loaded.model)
        quantize(fused, int8, per_channel=True)
        compressed.seal(folders[INT8], compressed.lay_out(folders[INT8], loaded, int8), {}, precision="int8")


def register(name: str, folder: Path) -> None:
    from db import registry
    from db.engine import session
    from db.settings import settings
    from db.store import ArtifactStore

    stored = ArtifactStore(settings().artifacts(), settings().home).put(folder)
    with session() as opened:
        registry.record(opened, stored, "classify", None)
        registry.add(opened, name, stored.digest, {}, {}, None, promote_over=None)


def worker(submit: Callable[[], AsyncResult]) -> Measured:
    """A whole worker, from the start of its command to the answer."""
    waiting = submit()
    began = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = psutil.Popen(COMMAND, cwd=ROOT, start_new_session=True, **quiet)
    try:
        waiting.get(timeout=LIMIT_S)
        seconds = time.perf_counter() - began
        processes = [started, *started.children(recursive=True)]
        spent = sum(sum(each.cpu_times()[:2]) for each in processes)
        return {"s": seconds, "processor_s": spent, "mb": sum(pss(each.pid) for each in processes)}
    finally:
        started.terminate()
        started.wait(30)


def pss(pid: int) -> float:
    """MB; of what is shared with other processes, the process's part."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 1000


def summary(found: dict[str, dict[str, list[float]]]) -> dict[str, object]:
    middle = {
        what: {name: round(statistics.median(values), 3) for name, values in each.items()}
        for what, each in found.items()
    }
    said: dict[str, object] = {}
    for what, (first, second), key in (("s", (TORCH, INT8), "sooner"), ("mb", (INT8, TORCH), "memory_share")):
        of = middle[what]
        said[key] = round(of[first] / of[second], 2)
        said[f"{key}_above_floor"] = round((of[first] - of[FLOOR]) / (of[second] - of[FLOOR]), 2)
        said[f"{key}_alone"] = round(of[f"{first} alone"] / of[f"{second} alone"], 2)
    return said | {"seconds": middle["s"], "processor_s": middle["processor_s"], "mb": middle["mb"]}


if __name__ == "__main__":
    main()
