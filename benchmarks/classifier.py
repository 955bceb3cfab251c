"""The classifier family on a folder of labelled texts: teacher, students, INT8, pruning; each made by the real jobs.

    python -m benchmarks.classifier --data FOLDER --encoder FOLDER [--prefix "query: "] [--seeds 3] [--base]

FOLDER: class.txt with train.txt and dev.txt (and unlabelled.txt, from which students gain most); the encoder in Hugging
Face's form. A worker trains the teacher and distils students from it, each beside its twin without a teacher at equal
compute, for each seed; then teacher and best student are compressed, the teacher is pruned in three ways, and all are
compared. Speeds: torch in float32 and the compressed forms take turns in one process, medians of the rounds' ratios.
`--base` adds a random network of BERT-base's size.
Last line: {"svm_dev", "teacher_dev", "ensemble", "student_dev", "student_alone_dev", "gains", "params_ratio",
"student_speedup_b1", "int8_speedup_b1", "int8_speedup_b32", "int8_drop_points", "int8_agreement", "int8_size_ratio",
"student_int8_speedup_b1", "pruned_speedup" (at batch 32), "pruned_speedup_b1", "pruned_drop_points",
"unstructured_speedup", "lowrank_speedup", "end_to_end_ratio", …}.
It takes more than an hour on two cores; with `--home FOLDER`, jobs that an earlier run has finished are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.services import relay, services, worker
from workers.hardware import cores
from workers.process import threads

os.environ.update(threads(cores()))  # as in the workers; before torch

BERT_BASE = {"vocab_size": 21128, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
             "intermediate_size": 3072}  # fmt: skip
SECONDS = 24 * 3600
PADDED = 128  # tokens to which the slow peer pads every text
ROUNDS, TURN = 30, 8
SHOWN = ("speedup_b1", "speedup_b32", "drop_points", "agreement")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--freeze", type=int, default=6)
    parser.add_argument("--layer-decay", type=float, default=0.9)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--epochs", type=int, default=3, help="of the teacher")
    parser.add_argument("--max-length", type=int, default=40)
    parser.add_argument("--kinds", nargs="+", default=["ngrams", "bilstm"])
    parser.add_argument("--seeds", type=int, default=3, help="of the students, from 42 on")
    parser.add_argument("--home", type=Path, help="keep rows and artifacts here, and go on from them")
    parser.add_argument("--base", action="store_true", help="INT8 of BERT-base's size too")
    given = parser.parse_args()
    result: dict[str, Any] = {}
    with services(given.home), worker("broker.app", "gpu,cpu", 1), relay():
        teach(given, result)
        distil(given, result)
        compress(result)
        prune(result)
        compared(given, result)
        serve(given, result)
    if given.base:
        base(given, result)
    print(json.dumps(result))


def run(kind: str, **values: Any) -> dict[str, Any]:
    """What a job gives; waits for it, or for the same one of an earlier run."""
    from sqlalchemy import select

    from broker.job import find
    from db.engine import session
    from db.job import Job

    job = find(kind)
    asked = job.params_model.model_validate(values).model_dump(mode="json")
    usable = Job.state.not_in(("FAILURE", "REVOKED"))
    with session() as opened:
        earlier = opened.scalar(select(Job.id).where(Job.kind == kind, Job.params == asked, usable))
    began = time.perf_counter()
    done = (job.AsyncResult(str(earlier)) if earlier else job.submit(**values)).get(timeout=SECONDS)
    print(f"{kind} took {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return dict(done)


def teach(given: argparse.Namespace, result: dict[str, Any]) -> None:
    done = run(
        "classify.train_teacher", data=given.data, encoder=given.encoder, prefix=given.prefix, name="teacher",
        freeze=given.freeze, layer_decay=given.layer_decay, rate=given.rate, epochs=given.epochs,
        max_length=given.max_length, patience=given.epochs, buckets=True,
    )  # fmt: skip
    result["svm_dev"] = percent(done["metrics"]["baseline"]["dev"]["accuracy"])
    result["teacher_dev"] = percent(done["metrics"]["dev"]["accuracy"])
    print(f"TF-IDF + SVM {result['svm_dev']} %, teacher {result['teacher_dev']} %", flush=True)


def distil(given: argparse.Namespace, result: dict[str, Any]) -> None:
    """All kinds with each seed; the best of the first seed is what is compressed."""
    result["students"], gains = [], {}
    for seed in range(42, 42 + given.seeds):
        done = run("classify.distill", data=given.data, teacher="teacher", name=f"student-{seed}", kinds=given.kinds,
                   seed=seed)  # fmt: skip
        result.setdefault("ensemble", done["ensemble"])
        for row in done["students"]:
            result["students"].append({"seed": seed} | row)
            if row["gain_points"] is not None:
                gains.setdefault(f"{row['kind']}, {row['labels']}", []).append(row["gain_points"])
            print(f"seed {seed}: {row['kind']} {row['size']}, {row['labels']} labels: {percent(row['dev'])} % "
                  f"({row['gain_points']} points), {row['parameters']:,} parameters", flush=True)  # fmt: skip
        if seed == 42:
            best = done["best"]
            result["student_dev"], result["params_ratio"] = percent(best["dev"]), best["share"]
            result["student_alone_dev"] = round(result["student_dev"] - best["gain_points"], 2)
    result["gains"] = gains


def compress(result: dict[str, Any]) -> None:
    for name, prefix in (("teacher", "int8"), ("student-42", "student_int8")):
        done = run("compress.quantize", model=name, name=f"{name}-int8")
        chosen = next(row for row in done["candidates"] if row["chosen"])
        result[f"{prefix}_chosen"] = chosen["name"]
        for key in ("speedup_b1", "speedup_b32", "drop_points", "agreement", "size_ratio"):
            result[f"{prefix}_{key}"] = chosen[key]
        for row in done["candidates"]:
            figures = ", ".join(
                f"{key} {row[key]}" for key in ("speedup_b1", "speedup_b32", "drop_points", "agreement")
            )
            print(f"{name}: {row['name']:32} {figures} {row['refused'] or ''}", flush=True)


def prune(result: dict[str, Any]) -> None:
    """Structure that goes, single weights that become zero, and thin matrices: what each costs and really saves."""
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "pruned": ("compress.prune", {}),
        "unstructured": ("compress.prune", {"method": "unstructured", "recovery_s": 0}),
        "lowrank": ("compress.lowrank", {}),
    }
    for name, (kind, values) in ways.items():
        done = run(kind, model="teacher", name=f"teacher-{name}", **values)
        found = done["compression"]
        result[f"{name}_speedup"] = found["speedup_b32"]
        for key in ("speedup_b1", "drop_points", "agreement"):
            result[f"{name}_{key}"] = found[key]
        for row in done["cuts"]:
            print(f"teacher: {row['cut']}: accuracy {row['accuracy']:.3f}, without recovery "
                  f"{row['accuracy_without_recovery']:.3f}; {row['recovery_s']} s {row['refused'] or ''}")  # fmt: skip
        print(f"teacher, {name}: {found['speedup_b1']}x at batch 1, {found['speedup_b32']}x at batch 32, "
              f"{found['drop_points']} points", flush=True)  # fmt: skip


def compared(given: argparse.Namespace, result: dict[str, Any]) -> None:
    done = run("classify.compare", data=given.data)
    result["compare_report"] = done["report"]


def serve(given: argparse.Namespace, result: dict[str, Any]) -> None:
    """Texts one by one and all at once, tokenizing included, from the artifacts that the jobs have stored."""
    import torch

    from jobs.classify import load
    from jobs.text import data

    torch.set_num_threads(cores())
    texts = data.load(given.data).dev.texts
    teacher, fast, student = (load(name) for name in ("teacher", "teacher-int8", "student-42-int8"))
    turns = [texts[number * TURN : (number + 1) * TURN] for number in range(min(ROUNDS, len(texts) // TURN))]
    one = interleaved(
        {"torch": lambda part: [teacher.logits([text]) for text in part],
         "int8": lambda part: [fast.logits([text]) for text in part],
         "student": lambda part: [student.logits([text]) for text in part]}, turns,
    )  # fmt: skip
    result["student_speedup_b1"] = round(ratio(one, "torch", "student"), 1)
    result["student_ms_b1"] = round(1e3 * statistics.median(one["student"]) / TURN, 3)
    network, tokenizer = teacher.loaded.model, teacher.loaded.tokenizer
    rows = [tokenizer(given.prefix + text, truncation=True, max_length=given.max_length,
                              padding=False)["input_ids"] for text in texts]  # fmt: skip
    pad = tokenizer.pad_token_id

    @torch.inference_mode()
    def padded(number: int) -> None:
        ids = torch.tensor([rows[number] + [pad] * (PADDED - len(rows[number]))])
        network(ids, (torch.arange(PADDED) < len(rows[number])).long()[None])

    few = list(range(0, len(texts), max(1, len(texts) // 50)))
    slow_s, fast_s = [], []
    for _ in range(3):
        slow_s.append(timed(lambda: [padded(number) for number in few]) / len(few))
        fast_s.append(timed(lambda: fast.logits(texts)) / len(texts))
    result["end_to_end_ratio"] = round(statistics.median(a / b for a, b in zip(slow_s, fast_s, strict=True)), 1)
    result["end_to_end_texts_per_s"] = round(1 / statistics.median(fast_s))
    print(
        f"student one by one {result['student_speedup_b1']}x; all dev texts {result['end_to_end_ratio']}x", flush=True
    )


def base(given: argparse.Namespace, result: dict[str, Any]) -> None:
    """INT8 of a network of BERT-base's size: its weights are random, so only the speed says something."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    from jobs.compress.gate import Gate
    from jobs.compress.trial import compare
    from jobs.text import data
    from jobs.text.artifact import Loaded
    from jobs.text.data import Split
    from jobs.text.network import Classifier

    torch.manual_seed(0)
    dataset = data.load(given.data)
    tokenizer = AutoTokenizer.from_pretrained(given.encoder, local_files_only=True)
    shape = BertConfig(**BERT_BASE, pad_token_id=tokenizer.pad_token_id)
    network = Classifier(BertModel(shape, add_pooling_layer=False), len(dataset.classes)).eval()
    facts = {"reading": {"max_length": given.max_length, "prefix": given.prefix}, "architecture": "BERT-base"}
    loaded = Loaded(network, tokenizer, dataset.classes, facts, torch.device("cpu"))
    few = Split(dataset.dev.texts[:200], dataset.dev.labels[:200])
    with tempfile.TemporaryDirectory() as folder:
        outcome = compare(loaded, few, Path(folder), Gate(100.0, 0.0))
    int8 = max((each for each in outcome.trials if each.precision == "int8"), key=lambda each: each.speedup_b1 or 0)
    result["base_int8"] = {"name": int8.name, "speedup_b1": int8.speedup_b1, "speedup_b32": int8.speedup_b32,
                           "size_ratio": int8.size_ratio}  # fmt: skip


def interleaved(
    calls: dict[str, Callable[[Sequence[str]], Any]], turns: Sequence[Sequence[str]]
) -> dict[str, list[float]]:
    """Seconds of each turn of each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(turns[0])
    for turn in turns:
        for name, call in calls.items():
            begin = time.perf_counter()
            call(turn)
            times[name].append(time.perf_counter() - begin)
    return times


def timed(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def ratio(times: dict[str, list[float]], peer: str, ours: str) -> float:
    return statistics.median(a / b for a, b in zip(times[peer], times[ours], strict=True))


def percent(share: float) -> float:
    return round(100 * share, 2)


if __name__ == "__main__":
    main()
