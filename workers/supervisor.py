"""Runs several commands side by side: their lines on one output, restarts, and one clean end for all."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console

from broker.log import as_json, told

START_SECONDS = 10.0  # one that ends by itself sooner is misconfigured, not unlucky
PAUSE_SECONDS = 30.0  # the longest before a start; what ran longer than that is not in a row of failures any more
GRACE_SECONDS = 20.0
COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_red")
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass
class _Command:
    argv: list[str]
    env: Mapping[str, str]
    colour: str
    process: "subprocess.Popen[str] | None" = None
    started: float = 0.0
    restart_at: float = 0.0
    restarts: int = 0
    said: str = ""  # its last line
    pumps: list[threading.Thread] = field(default_factory=list)


class Supervisor:
    """Add commands, then `run` until a signal. Each runs in a session of its own and dies with this process."""

    def __init__(self, output: TextIO | None = None) -> None:
        self.returncode = 0
        self.reason = ""  # of an end that nobody asked for
        self._console = Console(file=output or sys.stdout, highlight=False, soft_wrap=True)
        self._commands: dict[str, _Command] = {}
        self._stop = threading.Event()

    def add(self, name: str, argv: list[str], env: Mapping[str, str] | None = None) -> None:
        """A command under a name; `env` is added to the environment."""
        colour = COLOURS[len(self._commands) % len(COLOURS)]
        self._commands[name] = _Command(argv, {**os.environ, **(env or {})}, colour)

    def run(self, tick: Callable[[], None] = lambda: None) -> int:
        """Start everything and stay until SIGINT or SIGTERM; then stop everything. `tick` is called each round.

        A command that ends later than START_SECONDS after its start is started again, with growing pauses, and so is
        one that was killed by a signal at any time. One that ends by itself before is wrong in itself: everything
        stops, and its exit code is returned.
        """
        old = {number: signal.signal(number, self._told) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for name in self._commands:
                self._start(name)
            while not self._stop.wait(0.1):
                self._look()
                tick()
        finally:
            self._stop_all()
            for number, handler in old.items():
                signal.signal(number, handler)
        return self.returncode

    def stop(self) -> None:
        """End `run` from another thread or a tick."""
        self._stop.set()

    def say(self, name: str, line: str, colour: str = "white") -> None:
        """Write one line as that name."""
        if as_json():
            self._console.print(told(line, process=name), markup=False)
            return
        width = max(map(len, self._commands), default=0)
        self._console.print(f"{name:<{width}} | ", style=colour, end="", markup=False)
        self._console.print(line, markup=False)

    def _told(self, _number: int, _frame: object) -> None:
        self._stop.set()

    def _start(self, name: str) -> None:
        command = self._commands[name]
        mother = os.getpid()
        command.process = subprocess.Popen(
            command.argv,
            env=dict(command.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches this process only, which then ends them in order
            preexec_fn=lambda: _die_with(mother),
        )
        command.started = time.monotonic()
        pump = threading.Thread(target=self._pump, args=(name, command.process), daemon=True)
        pump.start()
        command.pumps = [pump]

    def _pump(self, name: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None  # for the type checker: it was opened as a pipe
        for line in process.stdout:
            self.say(name, line.rstrip("\n"), self._commands[name].colour)
            self._commands[name].said = line.strip() or self._commands[name].said

    def _look(self) -> None:
        now = time.monotonic()
        for name, command in self._commands.items():
            if command.process is None:
                if now >= command.restart_at:
                    self._start(name)
                continue
            code = command.process.poll()
            if code is None:
                continue
            ran = now - command.started
            if ran < START_SECONDS and code >= 0:
                self.say(name, f"ended at once with exit code {code}: stopping everything")
                self.returncode = code or 1
                for pump in command.pumps:
                    pump.join(timeout=2)  # its last line may be on its way
                self.reason = f"{name} ended at once: {command.said or 'it said nothing'}"
                self._stop.set()
                return
            if ran > PAUSE_SECONDS:
                command.restarts = 0
            pause = min(PAUSE_SECONDS, 2**command.restarts)
            self.say(name, f"{_ended(code)}: starting it again in {pause:.0f} s")
            command.restarts += 1
            command.process, command.restart_at = None, now + pause

    def _stop_all(self) -> None:
        """Ask each command's own process only: it knows what to do with the children that it has."""
        running = [command for command in self._commands.values() if command.process is not None]
        for command in running:
            _signal(command.process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for command in running:
            assert command.process is not None
            try:
                command.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            try:
                os.killpg(command.process.pid, signal.SIGKILL)  # what is left of its session
            except (ProcessLookupError, PermissionError):
                pass
            command.process.wait()
            for pump in command.pumps:
                pump.join(timeout=2)


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by signal {-code}" + (" (perhaps out of memory)" if code == -signal.SIGKILL else "")


def _signal(process: "subprocess.Popen[str] | None", number: signal.Signals) -> None:
    if process is not None and process.poll() is None:
        process.send_signal(number)


def _die_with(mother: int) -> None:
    """In the child, before its program: be asked to end when the parent dies, however it dies (Linux)."""
    if _libc is None:
        return
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != mother:  # it died in between
        os._exit(1)


def command_line(line: str) -> list[str]:
    """A Procfile's command as arguments; `gristmill` is this installation, whatever PATH says."""
    first, *rest = shlex.split(line) or [""]
    if first == "gristmill":
        return [sys.executable, "-m", "workers", *rest]
    return ["/bin/sh", "-c", f"exec {line}" if "=" not in first else line]
