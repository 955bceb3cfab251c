"""Rows of runs as an evaluation leaves them, made by hand: for the tests of what reads them."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from PIL import Image

from db.edit import EditPair, EditRun
from db.engine import session
from db.settings import settings
from db.store import ArtifactStore

HOSTILE = "<script>alert('x')</script> 把图片变亮 & \"more\""
SCORER = {
    "class": "tests.Judge",
    "name": "a judge of the tests",
    "scale": [0, 10],
    "revision": "abc",
    "parameters": {"temperature": 0},
}
CONFIG = {
    "name": "by hand",
    "editor": {"class": "procedural", "parameters": {}},
    "scorer": {"class": "tests.Judge", "parameters": {"key": "s3cret"}},
    "prompts": {"score": {"default": {"system": "Judge.", "user": "{instruction}"}}},
    "seed": 3,
}


def store() -> ArtifactStore:
    return ArtifactStore(settings().artifacts(), settings().home)


def pictures(folder: Path, count: int) -> str:
    """An artifact of small pictures 0.png, 1.png, …; its digest."""
    folder.mkdir()
    for number in range(count):
        out = io.BytesIO()
        Image.new("RGB", (48, 32), (40 * number % 256, 90, 160)).save(out, "PNG")
        (folder / f"{number}.png").write_bytes(out.getvalue())
    (folder / "manifest.json").write_text(json.dumps({"kind": "images of the tests", "folder": folder.name}))
    return store().put(folder).digest


def run(
    categories: Mapping[str, Sequence[float | str]], artifact: str | None = None, *, name: str = "by hand",
    benchmark: str = "0" * 64, scorer: Mapping[str, Any] = SCORER, config: Mapping[str, Any] = CONFIG,
    jobs: Sequence[UUID] = (),
) -> UUID:  # fmt: skip
    """A run whose pairs have these scores, or failed at the score for this reason."""
    made = EditRun(
        id=uuid4(), key=uuid4().hex, name=name, config={**config, "name": name}, editor={"name": "an editor"},
        benchmark={"path": "bench.json", "sha256": benchmark, "pairs": {}}, scorer=dict(scorer),
        jobs=[str(each) for each in jobs],
    )  # fmt: skip
    position = 0
    with session() as opened:
        opened.add(made)
        opened.flush()
        for category, outcomes in categories.items():
            for number, outcome in enumerate(outcomes):
                opened.add(_pair(made.id, category, f"{category[:3]}-{number}", position, outcome, artifact))
                position += 1
    return made.id


def _pair(
    run_id: UUID, category: str, pair_id: str, position: int, outcome: float | str, artifact: str | None
) -> EditPair:
    failed = isinstance(outcome, str)
    place = {"artifact": artifact, "file": f"{position % 4}.png", "width": 48, "height": 32} if artifact else None
    return EditPair(
        run_id=run_id, category=category, pair_id=pair_id, batch=0, position=position, instruction=HOSTILE,
        description="", original=place, edited=place, state="failed" if failed else "scored",
        failed_at="score" if failed else None, error=outcome if failed else None, score=None if failed else outcome,
        parts=None if failed else {"adherence": outcome, "preservation": 5.0}, words=None if failed else HOSTILE,
        edit_s=0.5, score_s=0.25, edits=1, scores=0 if failed else 1,
    )  # fmt: skip
