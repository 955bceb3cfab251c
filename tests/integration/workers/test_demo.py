"""The demo: a run that was broken off is gone on with, and the end names what there is."""

import socket
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from broker.address import address_file
from db.settings import settings
from workers.demo.__main__ import farewell
from workers.demo.stage import submitted


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
        kept = farewell(False, ["recommend"])
    stopped = farewell(True, ["classify"])
    settings.cache_clear()

    assert kept.splitlines()[0] == f"Web:     {address}"
    assert "gristmill recommend 196" in kept
    assert "classify.predict" not in kept
    assert "Flower" not in kept
    assert f"the rows stay in {tmp_path}" in stopped.splitlines()[0]
    assert "classify.predict --model demo-student-int8" in stopped
