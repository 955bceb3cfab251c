"""`gristmill doctor`: can this machine reach what it needs, who works the queues, and is anything stuck."""

import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any

import redis
import sqlalchemy.exc
from sqlalchemy import text

from broker.address import listening
from broker.errors import summary
from broker.queues import QUEUES
from broker.settings import make_client, redis_url
from broker.settings import settings as broker_settings
from db.settings import SettingsError, redact, settings
from workers.hardware import cores, gpus

RELAY_SECONDS = 10  # what a relay has left for so long, and leaves for AGAIN_SECONDS more, it does not see
AGAIN_SECONDS = 2
HOUR = 3600
Consumers = Callable[[], dict[str, list[str]]]


@dataclass(frozen=True, slots=True)
class Check:
    """One answer: what was looked at, whether it is well, what was found, and what to do if it is not."""

    name: str
    ok: bool | None  # None: it could not be looked at
    found: str
    remedy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def diagnose() -> list[Check]:
    """Every check, in the order in which one would repair things."""
    postgres, broker = _guarded("postgres", _postgres), _guarded("redis", _redis)
    asked = cache(consumers)  # they are given a second to answer
    checks = [postgres, broker, _guarded("artifacts", _artifacts), _devices()]
    for name, look, needs in (
        ("queues", partial(_queues, asked), (broker,)),
        ("waiting", partial(_waiting, asked), (postgres, broker)),
        ("relay", _relay, (postgres,)),
        ("last hour", _last_hour, (postgres,)),
    ):
        lacking = " and ".join(need.name for need in needs if not need.ok)
        checks.append(Check(name, None, f"not looked at without {lacking}") if lacking else _guarded(name, look))
    home = settings().home
    found = {name: listening(home, name) for name in ("flower", "metrics", "web")}  # optional: missed by nobody
    return checks + [Check(name, True, address) for name, address in found.items() if address]


def as_data(checks: list[Check]) -> dict[str, Any]:
    """The same as plain data, for scripts."""
    return {"ok": all(check.ok for check in checks), "checks": [asdict(check) for check in checks]}


def missing() -> Check | None:
    """The first thing for want of which a job that is submitted now would not run; None when it would."""
    for name, look in (("postgres", _postgres), ("redis", _redis), ("queues", partial(_queues, consumers))):
        check = _guarded(name, look)
        if not check.ok:
            return check
    return None


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check that cannot be made is a check that failed, with its first line."""
    try:
        return check()
    except SettingsError as error:
        what, _, remedy = str(error).rpartition(": ")
        return Check(name, False, what, remedy)
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        return Check(name, False, redact(said[0]))


def _postgres() -> Check:
    from db.engine import engine
    from db.migrate import is_current

    where = redact(settings().postgres_url())
    try:
        with engine().connect() as connection:
            version = connection.execute(text("SHOW server_version")).scalar_one()
    except sqlalchemy.exc.OperationalError as error:
        return Check(
            "postgres", False, f"{where}: {summary(error.orig)}", "start it, or correct GRISTMILL_DATABASE_URL"
        )
    facts = {"url": where, "version": version}
    if not is_current():
        return Check("postgres", False, f"{where}: the schema is not up to date", "gristmill migrate", facts)
    return Check("postgres", True, f"{version} at {where}", facts=facts)


def _redis() -> Check:
    where = redact(redis_url())
    try:
        with make_client() as client:
            info: dict[str, Any] = client.info()
    except redis.RedisError as error:
        remedy = "start it (`gristmill up`), or correct GRISTMILL_BROKER_URL"
        return Check("redis", False, f"{where}: {summary(error)}", remedy)
    policy = info.get("maxmemory_policy", "noeviction")
    facts = {"url": where, "version": info["redis_version"], "maxmemory_policy": policy}
    if policy != "noeviction":
        found = f"{where}: maxmemory-policy is {policy}: it may throw messages away"
        return Check("redis", False, found, "set maxmemory-policy noeviction", facts)
    return Check("redis", True, f"{info['redis_version']} at {where}", facts=facts)


def _artifacts() -> Check:
    import fsspec

    url = settings().artifacts()
    where = redact(url)
    try:
        files, folder = fsspec.core.url_to_fs(url)
        probe = f"{folder.rstrip('/')}/.probe-{uuid.uuid4().hex}"
        files.makedirs(folder, exist_ok=True)
        files.pipe_file(probe, b"gristmill")
        files.rm_file(probe)
    except ImportError as error:
        return Check("artifacts", False, f"{where}: {error}", "pip install 'gristmill[s3]'")
    except Exception as error:  # each store has its own exceptions
        said = (str(error).splitlines() or [""])[0] or type(error).__name__
        remedy = "make it writable, or correct GRISTMILL_ARTIFACTS_URL"
        return Check("artifacts", False, f"{where}: {said}", remedy)
    return Check("artifacts", True, f"{where}: written and deleted a probe", facts={"url": where})


def _devices() -> Check:
    found = gpus()
    facts = {"cores": cores(), "gpus": [gpu._asdict() for gpu in found]}
    names = ", ".join(f"{gpu.device}: {gpu.name}" for gpu in found) or "no GPU (gpu jobs run on the CPU)"
    return Check("devices", True, f"{cores()} cores; {names}", facts=facts)


def consumers() -> dict[str, list[str]]:
    """The workers that answer within a second, and the queues that each takes from."""
    from broker.app import app

    answers = app.control.inspect(timeout=1.0).active_queues() or {}
    return {name: sorted(queue["name"] for queue in queues) for name, queues in answers.items()}


def _queues(consumers: Consumers) -> Check:
    workers = consumers()
    served = {queue for queues in workers.values() for queue in queues}
    idle = [queue for queue in QUEUES if queue not in served]
    facts = {"workers": workers, "without_worker": idle}
    found = "; ".join(f"{name}: {', '.join(queues)}" for name, queues in sorted(workers.items()))
    if idle:
        return Check("queues", False, f"no worker answers for {', '.join(idle)}", _start_workers(idle), facts)
    return Check("queues", True, found, facts=facts)


def _waiting(consumers: Consumers) -> Check:
    """What is due in each queue, also in those of a user's own, and whether anybody takes from it."""
    from db import vitals
    from db.engine import session

    with session() as opened:
        depths = vitals.depths(opened, broker_settings().owner_window)
    served = {queue for queues in consumers().values() for queue in queues}
    due = [depth for depth in depths if depth.waiting + depth.held]
    stuck = [depth.queue for depth in due if depth.queue not in served]
    facts = {depth.queue: asdict(depth) | {"consumed": depth.queue in served} for depth in depths}
    found = "; ".join(
        f"{depth.queue}: {depth.waiting + depth.held} due, the oldest for {depth.oldest_s or 0:.0f} s"
        f"{', and no worker answers that takes them' if depth.queue in stuck else ''}"
        for depth in due
    )
    return Check("waiting", not stuck, found or "no job is due", _start_workers(stuck), facts)


def _start_workers(queues: list[str]) -> str:
    """One command for each class; a queue of its own is named."""
    commands = [
        f"gristmill worker {queue.split('.')[0]}" + (f" --queue {queue}" if queue not in QUEUES else "")
        for queue in queues
    ]
    return " and ".join(dict.fromkeys(commands))


def _relay() -> Check:
    """Looks twice: what a relay was about to do is done by then."""
    from db import vitals
    from db.engine import session

    unsent, overdue = _left_undone()
    if unsent or overdue:
        time.sleep(AGAIN_SECONDS)
        unsent, overdue = (first & second for first, second in zip((unsent, overdue), _left_undone(), strict=True))
    with session() as opened:
        hanging = vitals.locked_by(opened, overdue)
    facts = {"unsent": len(unsent), "overdue": len(overdue), "hanging": hanging}
    if not unsent and not overdue:
        return Check("relay", True, "no job waits to be sent or taken back", facts=facts)
    found = [f"{len(unsent)} due job(s) wait to be sent"] if unsent else []
    if overdue:
        found.append(f"{len(overdue)} running job(s) lost their lease and are not taken back")
    remedy = "gristmill relay"
    if hanging:
        found.append(f"an open transaction holds rows of {', '.join(hanging)}")
        remedy = f"end the hanging processes of {', '.join(hanging)}; gristmill relay if none runs"
    return Check("relay", False, "; ".join(found), remedy, facts)


def _left_undone() -> tuple[set[uuid.UUID], set[uuid.UUID]]:
    from db import vitals
    from db.engine import session

    # Leases that nobody could renew while Postgres was away are left alone by the relay for the time of one.
    up_for_s = broker_settings().lease_seconds + RELAY_SECONDS
    with session() as opened:
        return vitals.unsent(opened, RELAY_SECONDS), vitals.overdue(opened, RELAY_SECONDS, up_for_s)


def _last_hour() -> Check:
    """What went wrong and was dealt with: to be known, not repaired."""
    from db import vitals
    from db.engine import session

    with session() as opened:
        found = vitals.activity(opened, HOUR)
    said = [f"{found.attempts} attempts, {found.charged} charged", f"{found.retries} retries"]
    said.append(f"{found.leases_lost} leases lost and rescued")
    if found.last_lost_by:
        said[-1] += f" (the last of {found.last_lost_by})"
    said += [f"{found.processes_lost} processes lost", f"{found.dropped} messages dropped"]
    if found.last_dropped:
        said[-1] += f" (the last: {found.last_dropped}; see the table dropped_message)"
    return Check("last hour", True, "; ".join(said), facts=asdict(found))
