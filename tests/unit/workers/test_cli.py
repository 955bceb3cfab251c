"""The frame of the command line: JSON anywhere, and one line for every expected error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def gristmill(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "120", **variables}
    command = [sys.executable, "-m", "workers", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_help_names_every_process_command() -> None:
    said = gristmill("--help").stdout

    for command in ("up", "down", "worker", "relay", "beat", "flower", "metrics", "migrate", "doctor"):
        assert f" {command} " in said


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({}, "Postgres is not running under "),
        ({"GRISTMILL_DATABASE_URL": "mysql://me:secret@h/d"}, "GRISTMILL_DATABASE_URL=mysql://me:***@h/d: not a"),
        (
            {"GRISTMILL_DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/d"},
            "Postgres at postgresql+psycopg://me:***@",
        ),
    ],
)
def test_an_expected_error_is_one_line_without_a_traceback(
    tmp_path: Path, variables: dict[str, str], line: str
) -> None:
    done = gristmill("migrate", GRISTMILL_HOME=str(tmp_path), **variables)

    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.startswith(f"gristmill: {line}")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_a_mistyped_command_is_a_usage_error() -> None:
    done = gristmill("wrker")

    assert done.returncode == 2
    assert "No such command 'wrker'" in done.stderr


def test_json_is_taken_after_the_command_too(tmp_path: Path) -> None:
    done = gristmill("doctor", "--json", GRISTMILL_HOME=str(tmp_path))

    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert answer["ok"] is False
    assert {check["name"]: check["ok"] for check in answer["checks"]} == {
        "postgres": False,
        "redis": False,
        "artifacts": True,
        "devices": True,
        "queues": None,
        "waiting": None,
        "relay": None,
        "last hour": None,
    }
    assert [check["found"] for check in answer["checks"][4:6]] == [
        "not looked at without redis",
        "not looked at without postgres and redis",
    ]


def test_options_of_cpu_workers_are_refused_for_gpu_workers(tmp_path: Path) -> None:
    done = gristmill("worker", "gpu", "--processes", "2", GRISTMILL_HOME=str(tmp_path))

    assert done.returncode == 2
    assert "one per GPU" in done.stderr
