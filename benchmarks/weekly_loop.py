"""MovieLens-100K's own time line, week by week: real refreshes before each week against the first model and its lists.

The data spans 31 weeks (September 1997 to April 1998); that is the simulated year there is. Most users rate everything
on one day, and 30 to 50 come back in a later week: these are whom a list can be tried on. After the first weeks a model
is trained on the past, everyone's list is computed, and the next week is served: a hit is a user who comes back and
rates something of the ten listed. Then the week's ratings are appended to the histories, as a site would, and
`recommend.refresh` runs as real jobs (embedded Postgres and Redis, a relay, one worker): train, compare with the model
in use, compute everyone's list under the new version, promote. Beside it, on the same users:

    without       the first model, and its lists of the first day; users who came later have none
    lists alone   the first model, its lists computed anew each week
    popular       the ten most rated so far that the user has not seen

Users without any list count as misses; the figures named `…_listed` leave them out. --kill runs everything a second
time, the worker killed (SIGKILL, with its processes) within the training of the first weekly refresh and while the
lists of the second are computed, and compares hits, decisions and the last lists.

Last line: {"hit_with_refresh", "hit_without", "weeks", …}.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.services import relay, services, worker

FIRST = 4  # weeks before the first model: 153 users
TOP = 10
WEEK_S = 7 * 86400
ARMS = ("with refresh", "lists alone", "without", "popular")
PATIENCE_S = 1800
KILLS = 2

Events = list[tuple[str, str]]


@dataclass
class Crew:
    """The one worker, which may be killed and is then replaced at once."""

    stack: ExitStack
    process: Any = None

    def start(self) -> None:
        # a lease of 5 s, so that a killed worker's job goes on soon
        started = worker("broker.app", "gpu,cpu", 1, GRISTMILL_LEASE_SECONDS="5", OMP_NUM_THREADS="1")
        self.process = self.stack.enter_context(started)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.start()


@dataclass
class Tried:
    """An arm's users who came back: in all weeks, how many had a list, and how many hits."""

    users: int = 0
    listed: int = 0
    hits: int = 0
    next_hits: int = 0  # the very next item was listed
    by_week: list[float] = field(default_factory=list)

    def add(self, lists: dict[str, list[str]], came: dict[str, list[str]]) -> None:
        hits = [user for user, items in came.items() if set(items) & set(lists.get(user, ()))]
        self.users += len(came)
        self.listed += sum(user in lists for user in came)
        self.hits += len(hits)
        self.next_hits += sum(items[0] in lists.get(user, ()) for user, items in came.items())
        self.by_week.append(len(hits) / max(1, len(came)))


def weeks() -> list[Events]:
    """(user, item) of each week, in time order."""
    import numpy as np

    from jobs.recommend import data

    loaded = data.load(data.ML_100K)
    histories, times = loaded.histories, loaded.times
    if times is None:
        raise SystemExit("ml-100k came without times")
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    found: list[Events] = [[] for _ in range(int((times.max() - times.min()) // WEEK_S) + 1)]
    for event in np.argsort(times, kind="stable"):
        week = int((times[event] - times.min()) // WEEK_S)
        found[week].append((histories.users[owner[event]], histories.items[histories.flat[event]]))
    return found


def run(timeline: list[Events], params: dict[str, Any], kills: int) -> dict[str, Any]:
    """One life of a site, from an empty database. kills: of the worker, in the first so many weekly refreshes."""
    with services(), relay(), ExitStack() as stack:
        from jobs.recommend.tasks import pretrain_batch

        crew = Crew(stack)
        crew.start()
        tried, decisions = {arm: Tried() for arm in ARMS}, []
        known: dict[str, list[str]] = {}
        _append([event for week in timeline[:FIRST] for event in week], known)
        result = _refresh(params, crew, None)
        first = _lists(sorted(known), result["promoted"])
        for number, week in enumerate(timeline[FIRST:], start=1):
            came = _came(week, known)
            served = _lists(list(came))
            pretrain_batch.submit(usernames=list(came), top_k=TOP, model_version=1).get(timeout=PATIENCE_S)
            tried["with refresh"].add(served, came)
            tried["lists alone"].add(_lists(list(came), 1), came)
            tried["without"].add(first, came)
            tried["popular"].add(_popular(known, came), came)
            _append(week, known)
            if number < len(timeline) - FIRST:
                result = _refresh(params, crew, number if number <= kills else None)
                decisions.append(result["decision"])
            _tell(number, tried, result)
        return {"tried": tried, "decisions": decisions, "lists": _lists(sorted(known))}


def _refresh(params: dict[str, Any], crew: Crew, kill: int | None) -> dict[str, Any]:
    """kill: the worker, within the training of an odd one, while an even one's lists are computed."""
    from jobs.recommend.tasks import refresh

    job = refresh.submit(**params)
    if kill is not None:
        _until("recommend.train" if kill % 2 else "recommend.pretrain_batch", job.id)
        crew.kill()
    made: dict[str, Any] = job.get(timeout=PATIENCE_S)
    return made


def _until(kind: str, root: str) -> None:
    """A job of this kind, of this refresh, runs."""
    from sqlalchemy import text

    from db.engine import autocommit

    deadline = time.monotonic() + PATIENCE_S
    query = text("SELECT count(*) FROM job WHERE kind = :kind AND root_id = :root AND state = 'STARTED'")
    while time.monotonic() < deadline:
        with autocommit() as connection:
            if connection.execute(query, {"kind": kind, "root": root}).scalar_one():
                return
        time.sleep(0.02)
    raise SystemExit(f"{kind} never started")


def _append(week: Events, known: dict[str, list[str]]) -> None:
    from db import interactions
    from db.engine import session

    with session() as opened:
        interactions.append(opened, week)
    for user, item in week:
        known.setdefault(user, []).append(item)


def _came(week: Events, known: dict[str, list[str]]) -> dict[str, list[str]]:
    """Who came back, and what they did then."""
    came: dict[str, list[str]] = {}
    for user, item in week:
        if user in known:
            came.setdefault(user, []).append(item)
    return came


def _lists(users: list[str], version: int | None = None) -> dict[str, list[str]]:
    """What is served to these users, or would be under a version. Nobody reads a list twice: nothing is counted."""
    from sqlalchemy import text

    from db.engine import autocommit
    from jobs.recommend import cache

    if version is None:
        found = {user: cache.read(user, TOP, count=False) for user in users}
        return {user: [item for item, _ in each.items] for user, each in found.items() if each}
    query = text("SELECT username, items FROM recommendation_cache WHERE model_version = :v AND username = ANY(:users)")
    with autocommit() as connection:
        return {
            u: [item for item, _ in items] for u, items in connection.execute(query, {"v": version, "users": users})
        }


def _popular(known: dict[str, list[str]], came: dict[str, list[str]]) -> dict[str, list[str]]:
    order = [item for item, _ in Counter(item for items in known.values() for item in items).most_common()]
    return {user: [item for item in order if item not in set(known[user])][:TOP] for user in came}


def _tell(number: int, tried: dict[str, Tried], result: dict[str, Any]) -> None:
    said = ", ".join(f"{arm} {each.by_week[-1]:.2f}" for arm, each in tried.items())
    print(f"week {FIRST + number}: hits {said}; {result['decision']}", file=sys.stderr)


def figures(tried: dict[str, Tried]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for arm, each in tried.items():
        name = {"with refresh": "with_refresh", "lists alone": "lists_alone"}.get(arm, arm)
        found[f"hit_{name}"] = round(each.hits / each.users, 4)
        found[f"hit_{name}_listed"] = round(each.hits / max(1, each.listed), 4)
        found[f"next_item_{name}"] = round(each.next_hits / each.users, 4)
        found[f"listed_{name}"] = round(each.listed / each.users, 4)
    return found


def draw(path: Path, tried: dict[str, Tried]) -> None:
    """Hits of each arm, as the mean of the last four weeks, and the share of users with a list."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for arm, each in tried.items():
        smooth = [sum(each.by_week[max(0, n - 3) : n + 1]) / len(each.by_week[max(0, n - 3) : n + 1])
                  for n in range(len(each.by_week))]  # fmt: skip
        axes.plot(range(FIRST + 1, FIRST + 1 + len(smooth)), smooth, label=arm, marker=".")
    axes.set_xlabel("week")
    axes.set_ylabel("users who came back and rated one of ten listed (four weeks' mean)")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, help="serve so many weeks; all there are without it")
    parser.add_argument("--model", default="blend")
    parser.add_argument("--epochs", type=int, help="of the quick preset's small network; 2 without it")
    parser.add_argument("--kill", action="store_true", help="a second time, with the worker killed twice")
    parser.add_argument("--kills", type=int, default=0, help="in this run kill the worker in so many refreshes")
    parser.add_argument("--picture", type=Path, metavar="FILE.png")
    options = parser.parse_args()
    training: dict[str, Any] = {"acceleration": "off"} | ({"epochs": options.epochs} if options.epochs else {})
    params = {"model": options.model, "preset": "quick", "top_k": TOP, "training": training}
    timeline = weeks()
    timeline = timeline[: FIRST + options.weeks] if options.weeks else timeline
    began = time.perf_counter()
    made = run(timeline, params, options.kills)
    answer = {"weeks": len(timeline) - FIRST, "user_weeks": made["tried"]["without"].users, **figures(made["tried"])}
    promoted = sum("is in use" in each for each in made["decisions"])
    answer |= {"refreshes": len(made["decisions"]), "promoted": promoted, "kills": options.kills}
    answer |= {"seconds": round(time.perf_counter() - began), "outcome": _digest(made)}
    if options.picture:
        draw(options.picture, made["tried"])
    if options.kill:
        answer["same_when_killed"] = _again()["outcome"] == answer["outcome"]
    print(json.dumps(answer))


def _digest(made: dict[str, Any]) -> str:
    """Of everything that a run came to."""
    whole = made | {"tried": {arm: asdict(each) for arm, each in made["tried"].items()}}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def _again() -> dict[str, Any]:
    """The same in a process of its own, killed: a process has one home."""
    given = [each for each in sys.argv[1:] if each != "--kill"]
    command = [sys.executable, "-m", "benchmarks.weekly_loop", *given, "--kills", str(KILLS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
