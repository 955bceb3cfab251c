"""Where processes of ours listen: the file has the address of one that is alive."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from broker.address import address_file, announce, listening
from db.settings import settings

ROOT = Path(__file__).parents[3]
FIRST = """
import os, sys
from broker.address import announce
announce("web", "http://127.0.0.1:8004")
"""


@pytest.mark.parametrize("lives", ["sys.stdin.read()", "os.execvp('cat', ['cat'])"])
def test_the_address_of_one_that_is_alive_is_not_overwritten(
    lives: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_HOME", str(tmp_path))
    settings.cache_clear()
    file = address_file(tmp_path, "web")

    with subprocess.Popen(
        [sys.executable, "-c", FIRST + lives], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "web: http://127.0.0.1:8004\n"
        if "exec" in lives:
            assert first.stdin is not None
            first.stdin.write("it is cat\n")
            first.stdin.flush()
            assert first.stdout.readline() == "it is cat\n"
        announce("web", "http://127.0.0.1:8005")
        beside = file.read_text()
        first.communicate("")
    announce("web", "http://127.0.0.1:8005")

    settings.cache_clear()
    assert beside == "http://127.0.0.1:8004"
    assert file.read_text() == "http://127.0.0.1:8005"


def test_an_address_where_nothing_answers_is_none(tmp_path: Path) -> None:
    file = address_file(tmp_path, "web")
    file.parent.mkdir()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        file.write_text(address)
        refused = listening(tmp_path, "web")
        server.listen()
        answered = listening(tmp_path, "web")

    assert refused is None
    assert answered == address
    assert listening(tmp_path, "flower") is None
