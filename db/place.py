"""An embedded server's lock, socket folder and process, found the same way by everyone who asks."""

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

# Linux allows 107 bytes in a unix socket's path; leave room for names like .s.PGSQL.5432.lock
LONGEST_FOLDER = 85


class ServerError(Exception):
    """An embedded server that does not start or stop; one line that names its log and the remedy."""


@contextmanager
def locked(home: Path, server: str) -> Iterator[None]:
    """Hold the lock of one embedded server, so that two processes starting it at once start one.

    The kernel drops the lock when its holder dies, so a killed process leaves nothing behind.
    """
    folder = home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{server}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def socket_folder(data: Path) -> Path:
    """The folder of a server's socket: beside its data, or a short one when that path is too long.

    The short one is derived from the data path, so every process computes the same without asking.
    """
    if len(os.fsencode(data)) <= LONGEST_FOLDER:
        return data
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"gristmill-{os.geteuid()}-{digest}"


def make_socket_folder(data: Path) -> Path:
    """Make that folder, private; refuse one that somebody else put there first."""
    folder = socket_folder(data)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine = (os.geteuid(), data.stat().st_uid)
    if folder.is_symlink() or folder.stat().st_uid not in mine:
        raise ServerError(f"{folder} belongs to another user: remove it, or set GRISTMILL_HOME to a shorter path")
    return folder


def remove_socket_folder(data: Path) -> None:
    """Leave nothing in the temporary folder once the server has stopped."""
    folder = socket_folder(data)
    if folder != data:
        try:
            folder.rmdir()
        except OSError:
            pass


def server_process(pid_file: Path, program: str, data: Path) -> psutil.Process | None:
    """The living server that a pid file names, or None.

    Its pid may belong to a stranger by now. A server's working folder is its data, which no stranger's is;
    a zombie has none, and stays for good in a container whose first process does not reap.
    """
    try:
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        if program in process.name() and os.path.samefile(process.cwd(), data):
            return process
    except (OSError, ValueError, IndexError, psutil.Error):
        pass
    return None


def gone(process: psutil.Process, seconds: float) -> bool:
    """Wait until a process has ended; False when it has not after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def last_lines(log: Path, count: int = 3) -> str:
    """The end of a server's log on one line, for an error message."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "no log was written"
    return " | ".join(lines[-count:])
