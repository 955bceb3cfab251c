"""Several commands side by side, with real processes."""

import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from db.place import gone
from workers import supervisor
from workers.supervisor import Supervisor, command_line

ROOT = Path(__file__).parents[3]
FOREVER = "import signal; print('up', flush=True); signal.pause()"


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_each_line_carries_the_name_of_its_command() -> None:
    output = io.StringIO()
    group = Supervisor(output)
    group.add("first", python("print('[one] %d%%')"))

    group.run()

    assert "first | [one] %d%%\n" in output.getvalue()


def test_a_command_that_ends_at_once_stops_everything_with_its_exit_code() -> None:
    output = io.StringIO()
    group = Supervisor(output)
    group.add("stays", python(FOREVER))
    group.add("fails", python("print('no such module'); raise SystemExit(3)"))

    code = group.run()

    assert code == 3
    assert group.reason == "fails ended at once: no such module"
    assert "fails | ended at once with exit code 3: stopping everything" in output.getvalue()


def test_a_command_that_ends_later_is_started_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(supervisor, "START_SECONDS", 0.0)
    output = io.StringIO()
    group = Supervisor(output)
    ran = tmp_path / "ran"
    group.add("dies", python(f"open({str(ran)!r}, 'a').write('x')"))

    group.run(tick=lambda: group.stop() if ran.exists() and ran.read_text() == "xx" else None)

    assert "dies | ended with exit code 0: starting it again in 1 s" in output.getvalue()


@pytest.mark.parametrize(
    ("number", "said"), [(9, "was killed by signal 9 (perhaps out of memory)"), (11, "was killed by signal 11")]
)
def test_a_command_that_was_killed_is_started_again_however_soon(number: int, said: str, tmp_path: Path) -> None:
    """A job may kill the worker that has just been started: that says nothing about the worker."""
    output = io.StringIO()
    group = Supervisor(output)
    ran = tmp_path / "ran"
    group.add("stays", python(FOREVER))
    group.add("dies", python(f"import os; open({str(ran)!r}, 'a').write('x'); os.kill(os.getpid(), {number})"))

    code = group.run(tick=lambda: group.stop() if ran.exists() and ran.read_text() == "xx" else None)

    assert code == 0
    assert f"dies  | {said}: starting it again in 1 s" in output.getvalue()
    assert "stays | was" not in output.getvalue()


def test_pauses_grow_in_a_row_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", 0.0)
    output = io.StringIO()
    group = Supervisor(output)
    ran = tmp_path / "ran"
    group.add("dies", python(f"import os; open({str(ran)!r}, 'a').write('x'); os.kill(os.getpid(), 9)"))

    group.run(tick=lambda: group.stop() if ran.exists() and ran.read_text() == "xxx" else None)

    assert group._commands["dies"].restarts == 1


def test_a_command_that_ignores_the_request_is_killed_with_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.2)
    output = io.StringIO()
    group = Supervisor(output)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + FOREVER.removeprefix("import signal; ")
    group.add("deaf", python(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {deaf!r}]); {deaf}"))

    group.run(tick=lambda: group.stop() if output.getvalue().count("up") == 2 else None)

    assert output.getvalue().count("deaf | up") == 2


def test_its_commands_die_with_it_however_it_dies(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys
        from workers.supervisor import Supervisor
        group = Supervisor()
        group.add("child", [sys.executable, "-c", "import os, signal; print('pid', os.getpid()); signal.pause()"],
                  {"PYTHONUNBUFFERED": "1"})
        group.run()
    """)
    parent = subprocess.Popen(
        python(program), stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline().rsplit(" ", 1)[1]))

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    assert gone(child, 10)
    parent.stdout.close()


def test_a_procfile_line_of_ours_runs_this_installation() -> None:
    assert command_line("gristmill worker gpu") == [sys.executable, "-m", "workers", "worker", "gpu"]


@pytest.mark.parametrize(
    ("line", "shell"), [("gunicorn app | tee log", "exec gunicorn app | tee log"), ("A=1 web", "A=1 web")]
)
def test_any_other_procfile_line_runs_in_a_shell(line: str, shell: str) -> None:
    assert command_line(line) == ["/bin/sh", "-c", shell]
