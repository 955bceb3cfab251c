"""`gristmill up`: embedded servers where no URL is given, the migrations, then every process of the Procfile."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil

import broker.embedded
import db.embedded
from broker.job import declared  # raises SettingsError for a module of GRISTMILL_JOBS that cannot be imported
from broker.settings import settings as broker_settings
from db.place import ServerError, gone
from db.settings import CLONE, SettingsError, settings
from workers.supervisor import Supervisor, command_line

TAG = "GRISTMILL_RUN"  # in the environment of all that a run started, its descendants included
WATCH_SECONDS = 5.0
EXTRAS = {"flower": "flower", "web": "fastapi"}  # what a process needs that not everybody installs
LINE = re.compile(r"^([A-Za-z0-9_-]+):\s*(\S.*)$")


def procfile() -> dict[str, str]:
    """Name to command, from the Procfile of the working folder or of the clone."""
    for folder in (Path.cwd(), CLONE):
        if (folder / "Procfile").exists():
            lines = (folder / "Procfile").read_text().splitlines()
            return {found[1]: found[2] for found in map(LINE.match, lines) if found}
    raise SettingsError(f"no Procfile in {Path.cwd()}: run `gristmill up` in the folder that has it")


def up(say: Callable[[str], None]) -> int:
    """Start everything and stay until SIGINT or SIGTERM; returns the exit code."""
    home = settings().home
    declared()
    with _only(home):
        _end_leftovers(home, say)
        run = _record(home)
        try:
            start_servers(say)
            supervisor = Supervisor()
            for name, line in procfile().items():
                if (needed := EXTRAS.get(name)) and find_spec(needed) is None:
                    say(f"{name} is left out: it is not installed (pip install 'gristmill[{name}]')")
                    continue
                supervisor.add(name, command_line(line), {TAG: run})
            code = supervisor.run(tick=_Watch(say))
        finally:
            _end_leftovers(home, say)  # what a stopped process did not take with it
            stop_servers()
            _file(home).unlink(missing_ok=True)
    if supervisor.reason:
        say(supervisor.reason)  # again, below what the others said when they were stopped: detach reads the last line
    return code


def start_servers(say: Callable[[str], None]) -> None:
    """The embedded servers for which no URL is given, and the schema up to date."""
    home = settings().home
    if settings().database_url is None:
        say(f"PostgreSQL: {db.embedded.start(home)}")
    if broker_settings().broker_url is None:
        say(f"Redis: {broker.embedded.start(home)}")
    from db.migrate import upgrade

    upgrade()


def stop_servers() -> None:
    """Stop the embedded servers of this home; those behind URLs are not ours to stop."""
    home = settings().home
    broker.embedded.stop(home)
    db.embedded.stop(home)


class _Watch:
    """Starts an embedded server again that went away under us (killed for its memory, say)."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._look_at = 0.0

    def __call__(self) -> None:
        if time.monotonic() < self._look_at:
            return
        home = settings().home
        try:
            if settings().database_url is None and not db.embedded.running(home):
                self._say(f"PostgreSQL went away and is back: {db.embedded.start(home)}")
            if broker_settings().broker_url is None and not broker.embedded.running(home):
                self._say(f"Redis went away and is back: {broker.embedded.start(home)}")
        except ServerError as error:
            self._say(str(error))
        self._look_at = time.monotonic() + WATCH_SECONDS


def detach(say: Callable[[str], None], timeout: float = 120) -> bool:
    """Run `up` in the background and return once every worker, the relay and the servers answer.

    False when one was running already, which is left as it is.
    """
    home = settings().home
    owner = running(home)
    if owner is not None:
        say(f"already running under {home} (pid {owner.pid})")
        return False
    declared()
    log = home / "log" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "workers", "up"],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    from workers.doctor import missing

    deadline = time.monotonic() + timeout
    while (lacking := missing()) is not None:
        if child.poll() is not None:
            said = [line for line in log.read_text().splitlines() if line.strip()]
            raise SettingsError(f"`gristmill up` ended: {said[-1] if said else 'it said nothing'}: see {log}")
        if time.monotonic() > deadline:
            down(say)
            raise SettingsError(
                f"`gristmill up` was not ready within {timeout:.0f} s and was stopped: "
                f"{lacking.name}: {lacking.found}: see {log}"
            )
        time.sleep(0.2)
    say(f"running in the background, log in {log}; stop it with `gristmill down`")
    return True


def down(say: Callable[[str], None]) -> bool:
    """Stop the run of this home and all that it started. False when nothing ran."""
    home = settings().home
    owner = running(home)
    if owner is not None:
        owner.send_signal(signal.SIGTERM)
        if not gone(owner, 60):
            owner.kill()
            gone(owner, 10)
    servers = db.embedded.running(home) or broker.embedded.running(home)
    ended = _end_leftovers(home, say)
    stop_servers()
    return owner is not None or ended > 0 or servers


def _file(home: Path) -> Path:
    return home / "run" / "up.json"


def _record(home: Path) -> str:
    run = f"{uuid.uuid4()}"
    me = psutil.Process()
    _file(home).write_text(json.dumps({"run": run, "pid": me.pid, "started": me.create_time()}))
    return run


def _recorded(home: Path) -> dict[str, object]:
    try:
        found = json.loads(_file(home).read_text())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def running(home: Path) -> psutil.Process | None:
    """The living `up` of this home: a pid alone may be a stranger's by now, with its start time it is not."""
    recorded = _recorded(home)
    try:
        process = psutil.Process(int(str(recorded.get("pid"))))
        return process if process.create_time() == recorded.get("started") else None
    except (ValueError, psutil.Error):
        return None


@contextmanager
def _only(home: Path) -> Iterator[None]:
    """One `up` a home. The kernel drops the lock of a killed one."""
    folder = home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "up.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = running(home)
            who = f" (pid {owner.pid})" if owner else ""
            raise SettingsError(f"already running under {home}{who}: stop it with `gristmill down`") from None
        yield


def _end_leftovers(home: Path, say: Callable[[str], None]) -> int:
    """Stop what a run of this home left behind: every process that carries its tag."""
    run = _recorded(home).get("run")
    found = [process for process in psutil.process_iter() if run and _tag(process) == run]
    parents = {process.pid for process in found}
    for process in found:
        try:
            if process.ppid() not in parents:  # the others end with theirs
                process.terminate()
        except psutil.Error:
            continue
    deadline = time.monotonic() + 10
    for process in found:
        if not gone(process, deadline - time.monotonic()):
            process.kill()
    if found:
        say(f"stopped {len(found)} process(es) that the last run left behind")
    return len(found)


def _tag(process: psutil.Process) -> str | None:
    if process.pid == os.getpid():
        return None
    try:
        return process.environ().get(TAG)
    except (psutil.Error, OSError):
        return None
