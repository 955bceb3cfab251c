"""Small benchmarks of coloured squares, the runs over them, and what the tests' own models were asked."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs.edit.settings import settings

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This worker trusts the tests' adapters."""
    monkeypatch.setenv("GRISTMILL_EDIT_ADAPTERS", "tests.editors.*")
    settings.cache_clear()
    yield
    settings.cache_clear()


def png(colour: str = "navy", side: int = 8) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, "PNG")
    return out.getvalue()


def square() -> str:
    """A PNG in base64."""
    return base64.b64encode(png()).decode()


def pairs(name: str, *instructions: str, **fields: Any) -> list[dict[str, Any]]:
    """A pair for each of the instructions; the description says which."""
    return [
        {"id": str(number), "image": square(), "instruction": each, "description": f"{name}{number}", **fields}
        for number, each in enumerate(instructions)
    ]


@pytest.fixture
def trace(tmp_path: Path) -> Callable[[], list[str]]:
    """What the models did so far, a line for each call."""
    return lambda: (tmp_path / "trace").read_text().splitlines() if (tmp_path / "trace").exists() else []


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes benchmark and configuration; returns the path of the configuration."""

    def write(given: Any, *, memory: int = 0, **config: Any) -> Path:
        (tmp_path / "benchmark.json").write_text(json.dumps({"categories": given}))
        parameters = {"trace": str(tmp_path / "trace"), "memory": memory}
        values = {
            "name": "squares",
            "benchmark": "benchmark.json",
            "editor": {"class": "tests.editors.Inverter", "parameters": parameters},
            "scorer": {"class": "tests.editors.Difference", "parameters": parameters},
            "batch": {"edit": 2, "score": 4},
        }
        path = tmp_path / "run.yaml"
        path.write_text(json.dumps(values | config))
        return path

    return write
