"""Where an embedded server's socket goes, and when a pid file is believed."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from db.place import gone, server_process, socket_folder


def test_a_short_path_keeps_the_socket_beside_the_data(tmp_path: Path) -> None:
    assert socket_folder(Path("/srv/gristmill/redis")) == Path("/srv/gristmill/redis")


def test_a_path_too_long_for_a_socket_gets_the_same_short_folder_every_time(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100) / "redis"

    assert socket_folder(long) == socket_folder(long)
    assert len(str(socket_folder(long))) < 85
    assert socket_folder(long) != socket_folder(long.with_name("postgres"))


@pytest.mark.parametrize("content", ["", "not a number", "999999999", str(os.getpid())])
def test_a_pid_file_that_names_no_server_of_this_folder_is_not_believed(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.pid").write_text(content)

    assert server_process(tmp_path / "server.pid", "python", tmp_path) is None


def test_a_process_that_nobody_reaped_counts_as_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    zombie = psutil.Process(child.pid)

    assert gone(zombie, seconds=10)

    child.wait()
