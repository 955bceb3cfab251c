"""Metrics of batches and of memory; and the alerts and the dashboard ask for nothing that is not there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import text

from broker.metrics import LedgerCollector, LedgerReader
from db import batch, ledger, memory
from db.engine import autocommit
from db.memory import Used
from tests.jobs import together
from workers.memory import look

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
RECIPE = ROOT / "docs" / "recipes" / "monitor.md"


@pytest.fixture
def registry(clean_db: Path) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(LedgerCollector(LedgerReader()))
    return made


def test_how_full_batches_are_is_attempts_by_calls(registry: CollectorRegistry) -> None:
    jobs = [UUID(each) for each in together.submit_many([{"n": n} for n in range(3)])]
    with autocommit() as on:
        leader = ledger.claim(on, jobs[0], "cpu@here", 30)
        assert leader is not None
        assert len(batch.join(on, leader, "cpu@here", 30, 7)) == 2

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"gristmill_{name}", {"kind": "tests.together"})

    assert (value("attempts_total"), value("calls_total"), value("batch_limit")) == (3, 1, 8)
    joined = {"kind": "tests.together", "cause": "Joined"}
    assert registry.get_sample_value("gristmill_attempts_failed_total", joined) is None  # it is no error


def test_a_worker_says_what_memory_it_uses_until_it_is_gone(registry: CollectorRegistry) -> None:
    def shown(device: str) -> float | None:
        labels = {"worker": "gpu@here", "device": device}
        return registry.get_sample_value("gristmill_worker_memory_bytes", labels)

    (host,) = look("gpu@here#1")
    assert 1 << 20 < host.used_bytes < host.total_bytes
    with autocommit() as on:
        memory.say(on, [host, Used("gpu@here#1", "gpu0", 5, 10)])
        memory.say(on, [Used("gpu@here#1", "gpu0", 7, 10), Used("gpu@here#2", "gpu0", 6, 10)])
        assert (shown("host"), shown("gpu0")) == (host.used_bytes, 7)  # of two of one name the fuller

        on.execute(text("UPDATE worker_memory SET at = now() - interval '2 minutes' WHERE worker = 'gpu@here#1'"))
        assert (shown("host"), shown("gpu0")) == (None, 6)
        memory.forget(on, "gpu@here#2")
        assert shown("gpu0") is None


def exported(registry: CollectorRegistry) -> set[str]:
    """The names of all series that there may be."""
    kinds = re.findall(r"^# TYPE (\w+) (\w+)$", generate_latest(registry).decode(), re.MULTILINE)
    ends = {"histogram": ("_bucket", "_count", "_sum")}
    return {f"{name}{end}" for name, kind in kinds for end in ends.get(kind, ("",))}


def queries(panel: Any) -> Iterator[str]:
    """Every `expr` and query of a variable, however deep."""
    match panel:
        case dict():
            for name, value in panel.items():
                if name in ("expr", "query") and isinstance(value, str):
                    yield value
                else:
                    yield from queries(value)
        case list():
            for each in panel:
                yield from queries(each)


def named(expressions: Iterator[str]) -> set[str]:
    return {name for each in expressions for name in re.findall(r"\bgristmill_\w+", each)}


def test_alerts_and_dashboard_ask_for_what_there_is_and_the_recipe_tells_of_it(registry: CollectorRegistry) -> None:
    there = exported(registry)
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    recipe = RECIPE.read_text()

    assert named(iter(rule["expr"] for rule in rules)) <= there
    assert [
        rule["alert"] for rule in rules if f"| `{rule['alert']}` |" not in recipe
    ] == []  # each has its runbook line
    assert DASHBOARDS
    for path in DASHBOARDS:
        asked = named(queries(json.loads(path.read_text())["panels"]))
        assert len(asked) > 15
        assert asked <= there


def test_the_dashboard_takes_any_prometheus(registry: CollectorRegistry) -> None:
    for path in DASHBOARDS:
        board = json.loads(path.read_text())

        assert {each["type"] for each in board["templating"]["list"] if each["name"] == "datasource"} == {"datasource"}
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        for panel in board["panels"]:
            if panel["type"] != "row":
                assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
                assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
