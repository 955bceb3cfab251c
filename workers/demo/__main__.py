"""The stories, with the Procfile's processes around them; `python -m workers.demo`, which bin/demo calls."""

import argparse
import signal
import sys
from collections.abc import Callable

from celery.exceptions import CeleryError
from rich.console import Console

from broker.address import listening
from broker.errors import GristmillError
from db.settings import SettingsError, settings
from workers import up
from workers.demo import classify, edit, recommend

PAGES = {"Web:": "web", "Flower:": "flower"}
STORIES = {"recommend": recommend.story, "classify": classify.story, "edit": edit.story}


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="bin/demo", description="Recommendations, text classifiers and an image editor evaluated, from nothing."
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running: stop it with `gristmill down`")
    parser.add_argument("--only", choices=sorted(STORIES), help="one of the stories")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out = Console(highlight=False)
    try:
        stopped = with_processes(
            lambda: tell(out, given.only), given.keep, lambda line: out.print(line, style="dim", soft_wrap=True)
        )
    except (SettingsError, GristmillError, CeleryError) as error:
        Console(stderr=True).print(f"demo: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    out.print(farewell(stopped, chosen(given.only)), soft_wrap=True)
    return 0


def tell(out: Console, only: str | None) -> None:
    """One story, or all."""
    for name in chosen(only):
        STORIES[name](out)


def chosen(only: str | None) -> list[str]:
    """The names of the stories that are told."""
    return [only] if only else list(STORIES)


def with_processes(work: Callable[[], None], keep: bool, say: Callable[[str], None]) -> bool:
    """Start the Procfile's processes in the background, work, and stop them unless they are to stay.

    What was running before stays as it is: it is somebody's. Returns whether they were stopped.
    """
    runs = up.running(settings().home) is not None
    if not runs:
        say(f"starting PostgreSQL, Redis and the Procfile's processes under {settings().home} …")
    ours = up.detach(say if keep or runs else lambda _: None)
    try:
        work()
    except BaseException:
        if ours:
            up.down(say)
        raise
    if ours and not keep:
        up.down(say)
        return True
    return False


def farewell(stopped: bool, told: list[str]) -> str:
    """Where to look next: what listens, and what the stories that were told have left."""
    home, gristmill = settings().home, ".venv/bin/gristmill"
    commands = []
    if "recommend" in told:
        commands += [f"{gristmill} recommend {recommend.USER}", f"{gristmill} cache stats"]
    if "classify" in told:
        commands.append(f"{gristmill} submit classify.predict --model {classify.SERVED} --text TEXT --wait")
        if web := listening(home, "web"):
            asked = f'{{"text": "{classify.TEXTS[0]}", "model": "{classify.SERVED}"}}'
            commands.append(f"curl -s {web}/predict -H 'Content-Type: application/json' -d '{asked}'")
    commands += [f"{gristmill} jobs --limit 5", f"{gristmill} models", f"{gristmill} doctor"]
    lines = [f"all is stopped; the rows stay in {home}. `bin/demo --keep` leaves it running:"] if stopped else []
    for title, name in PAGES.items():
        if address := listening(home, name):  # it may listen on another port than its own, or be left out
            lines.append(f"{title:9}{address}")
    lines += [f"{'' if turn else 'Try:':9}{each}" for turn, each in enumerate(commands)]
    return "\n".join([*lines, f"{'Stop:':9}{gristmill} down"])


if __name__ == "__main__":
    sys.exit(main())
