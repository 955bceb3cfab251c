"""The trainer that docs/recipes/train.md shows is real: its files train through the engine and report."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from db.settings import settings
from db.store import ArtifactStore
from tests.integration.recommend.running import run

RECIPE = Path(__file__).parents[3] / "docs" / "recipes" / "train.md"


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The recipe's files as a package beside the program, and data for it."""
    blocks = re.findall(r"```python\n# (media/\w+\.py)\n(.*?)```", RECIPE.read_text(), re.DOTALL)
    for name, code in blocks:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 4000)
    np.savez(tmp_path / "table.npz", x=random.normal(y[:, None], 0.5, (4000, 5)), y=y)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("media.tasks")
    for name in [name for name in sys.modules if name.partition(".")[0] == "media"]:
        del sys.modules[name]


@pytest.mark.usefixtures("clean_db")
def test_the_recipes_trainer_learns_and_reports(media: ModuleType, tmp_path: Path) -> None:
    result = run(media.train_table, data=str(tmp_path / "table.npz"), epochs=10, acceleration="off")

    assert result["accuracy"] > 0.95
    kept = ArtifactStore(settings().artifacts(), settings().home).fetch(result["report"])
    said = (kept / "report.md").read_text()
    assert "# table classifier, 5 columns" in said
    assert f"- best epoch: {result['best_epoch']}" in said
