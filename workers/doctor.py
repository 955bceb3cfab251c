"""`gristmill doctor`: can this machine reach what it needs, and does every queue have somebody to work it."""

import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import redis
import sqlalchemy.exc
from sqlalchemy import text

from broker.queues import QUEUES
from broker.settings import make_client, redis_url
from db.settings import SettingsError, redact, settings
from workers.hardware import cores, gpus
from workers.process import address_file

RELAY_SECONDS = 15  # a due job that waited longer for its message has no relay


@dataclass(frozen=True, slots=True)
class Check:
    """One answer: what was looked at, whether it is well, what was found, and what to do if it is not."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def diagnose() -> list[Check]:
    """Every check, in the order in which one would repair things."""
    postgres = _guarded("postgres", _postgres)
    broker = _guarded("redis", _redis)
    checks = [postgres, broker, _guarded("artifacts", _artifacts), _devices()]
    if broker.ok:
        checks.append(_guarded("queues", _queues))
    if postgres.ok:
        checks.append(_guarded("relay", _relay))
    address = address_file(settings().home, "flower")
    if address.exists():
        checks.append(Check("flower", True, address.read_text()))
    return checks


def as_data(checks: list[Check]) -> dict[str, Any]:
    """The same as plain data, for scripts."""
    return {"ok": all(check.ok for check in checks), "checks": [asdict(check) for check in checks]}


def missing() -> Check | None:
    """The first thing for want of which a job that is submitted now would not run; None when it would."""
    for name, look in (("postgres", _postgres), ("redis", _redis), ("queues", _queues)):
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
        said = str(error.orig).strip().splitlines()[0]
        return Check("postgres", False, f"{where}: {said}", "start it, or correct GRISTMILL_DATABASE_URL")
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
        return Check("redis", False, f"{where}: {str(error).splitlines()[0]}", remedy)
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


def _queues() -> Check:
    from broker.app import app

    answers = app.control.inspect(timeout=1.0).active_queues() or {}
    workers = {name: sorted(queue["name"] for queue in queues) for name, queues in answers.items()}
    served = {queue for queues in workers.values() for queue in queues}
    idle = [queue for queue in QUEUES if queue not in served]
    facts = {"workers": workers, "without_worker": idle}
    found = "; ".join(f"{name}: {', '.join(queues)}" for name, queues in sorted(workers.items()))
    if idle:
        remedy = " and ".join(f"gristmill worker {kind}" for kind in dict.fromkeys(q.split(".")[0] for q in idle))
        return Check("queues", False, f"no worker for {', '.join(idle)}", remedy, facts)
    return Check("queues", True, found, facts=facts)


def _relay() -> Check:
    from db.engine import engine

    late = text(
        "SELECT count(*) FROM job WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL"
        " AND run_at < now() - make_interval(secs => :seconds)"
    )
    with engine().connect() as connection:
        count = connection.execute(late, {"seconds": RELAY_SECONDS}).scalar_one()
    if count:
        return Check("relay", False, f"{count} due job(s) wait to be sent", "gristmill relay", {"late": count})
    return Check("relay", True, "no due job waits to be sent", facts={"late": 0})
