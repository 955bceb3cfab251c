"""The demo: a run that was broken off is gone on with, and the end names what there is."""

import os
import shlex
import socket
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from broker.address import address_file
from db.settings import settings
from web.routes.predict import Question
from workers import up
from workers.demo.__main__ import farewell, with_processes
from workers.demo.stage import submitted, table


def test_what_a_broken_off_demo_left_live_is_not_done_twice(clean_db: Path) -> None:
    said = StringIO()
    out = Console(file=said)

    first, again = (submitted(out, "tests.add", x=1) for _ in range(2))

    assert first == again
    assert said.getvalue() == f"tests.add {str(first)[:8]} is live already: waiting for it\n"


def test_the_end_names_where_something_listens_and_only_what_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_HOME", str(tmp_path))
    settings.cache_clear()
    web = address_file(tmp_path, "web")
    web.parent.mkdir()
    address_file(tmp_path, "flower").write_text("http://127.0.0.1:1")  # of one that was killed
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        web.write_text(address)
        kept, asking = farewell(False, ["recommend"]), farewell(False, ["classify"])
    stopped = farewell(True, ["classify"])
    settings.cache_clear()

    assert kept.splitlines()[0] == f"Web:     {address}"
    assert "gristmill recommend 196" in kept
    assert "predict" not in kept
    curl = next(shlex.split(line) for line in asking.splitlines() if "curl" in line)
    assert curl[2] == f"{address}/predict"
    assert Question.model_validate_json(curl[-1]).model == "demo-student-int8"
    assert "curl" not in stopped
    assert "Flower" not in kept
    assert f"the rows stay in {tmp_path}" in stopped.splitlines()[0]
    assert "classify.predict --model demo-student-int8" in stopped


def test_what_runs_already_is_used_and_not_said_to_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_HOME", str(tmp_path))
    settings.cache_clear()
    (tmp_path / "run").mkdir()
    up._record(tmp_path)
    said: list[str] = []

    stopped = with_processes(lambda: said.append("the work"), False, said.append)

    settings.cache_clear()
    assert said == [f"already running under {tmp_path} (pid {os.getpid()})", "the work"]
    assert not stopped


def test_the_title_of_a_narrow_table_stays_in_one_line() -> None:
    said = StringIO()
    made = table("procedural editor, measured scorer, 60 pairs", "", "mean score")
    made.add_row("colour", "0.61")

    Console(file=said, width=80).print(made)

    assert said.getvalue().splitlines()[0].rstrip() == made.title
