"""The documents keep what they promise: every setting is in them, and the README's examples are the real files."""

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

import broker.settings
import db.settings
import jobs.edit.settings
import jobs.recommend.sources.settings
import workers.settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "settings",
    [
        db.settings.Settings,
        broker.settings.Settings,
        workers.settings.Settings,
        jobs.edit.settings.Settings,
        jobs.recommend.sources.settings.Settings,
    ],
)
def test_every_setting_is_documented(settings: type[BaseSettings]) -> None:
    documented = set(re.findall(r"^\| `(GRISTMILL_\w+)`", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))

    assert {f"GRISTMILL_{name}".upper() for name in settings.model_fields} <= documented


def test_the_examples_that_are_shown_are_the_examples() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs" / "recipes").glob("*.md")]
    shown = {
        block.strip()
        for document in documents
        for block in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    }
    files = sorted((ROOT / "examples").glob("*.py"))

    assert len(files) == 3
    for file in files:
        assert any(block in file.read_text() for block in shown if len(block) > 200), file.name


def test_the_documents_link_to_what_exists() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
