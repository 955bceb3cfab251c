"""How jobs look to a person."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from broker import words
from broker.queues import PRIORITIES
from db.prefix import PREFIX
from db.read import JobDetail, JobRow, Pulse
from workers.cli.output import table
from workers.cli.views.result import summary

_PRIORITY_NAMES = {step: name for name, step in PRIORITIES.items()}
_RESULT_CHARACTERS = 4000
_SCREEN = 20  # lines; of a longer result a person who waited for it sees what it says
_CLIPPED = 80  # characters
_LOST = ("WorkerLost", "WorkerLostError")
# What these say is enough: a JobError is the job's own word, the others were raised around it and show the pool's code.
_ENOUGH = ("JobError", "TimeLimitExceeded", *_LOST)
_NUMBERS = re.compile(r"\[\n([-\d.eE+,\s]+)\]")  # a list of numbers, as json indents it
WIDE = 100  # characters


def rows(jobs: Sequence[JobRow], width: int) -> Table:
    """The list of jobs, a line each; a narrow one leaves out what is worth least."""
    columns: dict[str, Callable[[JobRow], str]] = {
        "id": lambda job: str(job.id)[:PREFIX], "kind": lambda job: job.kind, "state": lambda job: job.state,
        "queue": lambda job: job.queue, "attempt": lambda job: f"{job.attempt}/{job.max_attempts}",
        "age": lambda job: _age(job.created_at), "took": took, "": note,
    }  # fmt: skip
    if width < WIDE:
        columns = {name: value for name, value in columns.items() if name not in ("queue", "attempt", "took")}
    lines = [[value(job) for value in columns.values()] for job in jobs]
    return table(list(columns), lines, one_line=True)


def note(job: JobRow) -> str:
    """What is worth knowing of it at a glance."""
    return words.note(job, lambda message: clipped(message.splitlines()[0]), _progress)


def clipped(line: str) -> str:
    """What of it fits, to the end of a word where it has words."""
    if len(line) <= _CLIPPED:
        return line
    kept = line[:_CLIPPED]
    whole = kept.rpartition(" ")[0]
    return f"{whole if len(whole) > _CLIPPED / 2 else kept}…"


def told(now: Pulse) -> str:
    """How far it is, and of a fan-out when it will be done."""
    return ", ".join(filter(None, (now.note, f"{span(now.left_s)} left" if now.left_s else "")))


def detail(out: Console, job: JobDetail, waits: Pulse | None = None, *, traceback: bool = False) -> None:
    """All of one job. waits: how far the children are that it waits for; traceback: also of what says enough."""
    facts = {
        "id": str(job.id), "kind": job.kind, "state": job.state,
        "note": "" if job.error else note(job),  # which is said below
        "parameters": _json(job.params),
        "queue": f"{job.queue}, {_PRIORITY_NAMES.get(job.priority, job.priority)}",
        "attempt": f"{job.attempt} of {job.max_attempts}", "worker": job.worker or "", "key": job.key or "",
        "owner": job.owner or "",
        "created": _when(job.created_at), "due": _when(job.run_at) if job.state in ("PENDING", "RETRY") else "",
        "started": _when(job.began_at), "finished": _when(job.finished_at), "took": _took(job),
        "progress": told(waits) if waits else _progress(job.progress),
        "parent": str(job.parent_id or ""),
        "batch led by": str(job.leader_id or ""),
        "children": ", ".join(f"{count} {state}" for state, count in sorted(job.children.items())),
        "notes": _json(job.notes) if job.notes else "",
    }  # fmt: skip
    out.print(table(["", ""], [[name, value] for name, value in facts.items() if value]), soft_wrap=False)
    moves = [
        [
            _when(e.at),
            e.to_state,
            str(e.number or ""),
            e.worker or "",
            span(e.took_s),
            words.SPARED.get(e.cause or "", "") or (e.error or "").split("\n")[0],
        ]
        for e in job.history
    ]
    out.print()
    out.print(table(["at", "became", "attempt", "worker", "after", ""], moves, one_line=True))
    outcome(out, job, brief=False, traceback=traceback)


def outcome(out: Console, job: JobDetail, *, brief: bool = True, traceback: bool = False) -> None:
    """The result, or the error."""
    if brief:
        out.print(f"{job.kind} {job.id} {job.state} after {_took(job) or '0 s'}", markup=False, soft_wrap=True)
    if job.error and job.state != "SUCCESS":
        text = f"{job.error['type']}: {job.error['message']}"
        if not brief and job.error.get("traceback") and (traceback or job.error["type"] not in _ENOUGH):
            text = str(job.error["traceback"]).rstrip()
        if job.state == "REVOKED":
            text = f"its last attempt ended with {text}"
        out.print(text if brief else f"\n{text}", markup=False, soft_wrap=True)
    if job.state == "SUCCESS" and job.result is not None:
        text = _NUMBERS.sub(_on_one_line, json.dumps(job.result, indent=2, ensure_ascii=False))
        if brief and out.is_terminal and isinstance(job.result, dict) and text.count("\n") > _SCREEN:
            out.print(summary(job.result, str(job.id)[:PREFIX]), markup=False, soft_wrap=True)
            return
        shortened = "" if len(text) <= _RESULT_CHARACTERS else "\n… (the whole with --json)"
        out.print(f"{'' if brief else chr(10)}{text[:_RESULT_CHARACTERS]}{shortened}", markup=False, soft_wrap=True)


def _on_one_line(found: re.Match[str]) -> str:
    """A confusion matrix has a line for each class, not for each of its numbers."""
    return f"[{' '.join(found[1].split())}]"


def took(job: JobRow) -> str:
    """How long it took, or has taken."""
    return span(words.took_s(job))


def _took(job: JobDetail) -> str:
    worked = words.worked_s(job)
    if worked is None:
        return took(job)
    # An attempt that was lost has run until that was noticed, as far as anybody knows.
    bound = "at most " if any(each.cause in _LOST for each in job.history) else ""
    return f"{took(job)}, of which {bound}{span(worked)} at work"


def span(seconds: float | None) -> str:
    """A length of time in the unit that fits."""
    return "" if seconds is None else words.span(seconds)


def _age(moment: datetime) -> str:
    return span((datetime.now(UTC) - moment).total_seconds())


def _when(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _progress(progress: dict[str, Any] | None) -> str:
    if not progress:
        return ""
    counted = f"{progress['done']}/{progress['total']}"
    return " ".join(filter(None, (counted, progress.get("stage"), progress.get("message"))))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
