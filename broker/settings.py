"""How Gristmill reaches Redis and how patient it is, read from GRISTMILL_* variables.

GRISTMILL_BROKER_URL takes one of
    redis://[user:password@]host:6379/0        rediss://…[?ssl_ca_certs=/path/ca.pem] (TLS)
    redis+socket:///path/to/redis.sock?virtual_host=0
    sentinel://[user:password@]host:26379,host:26379/master[/0]      credentials are those of the master
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

import redis
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from db.settings import SettingsError, check_port, read, redact
from db.settings import settings as db_settings

VARIABLE = "GRISTMILL_BROKER_URL"
EXAMPLES = "use redis://host:6379/0, rediss://…, redis+socket:///path or sentinel://host:26379,host:26379/master"
SENTINEL_PORT = 26379

# A machine that is cut off takes no leave, and a pop that waits for an answer would wait for ever. In seconds.
REACH = {
    "socket_connect_timeout": 5,
    "socket_timeout": 5,  # for any answer but that of a blocking pop, which is read when it is there
    "health_check_interval": 10,  # a pop that is overdue by so much is given up; an idle connection is tried before use
}


class Settings(BaseSettings):
    """Unset URL means: embedded, under the home folder. Durations are in seconds."""

    model_config = SettingsConfigDict(env_prefix="GRISTMILL_", env_ignore_empty=True, extra="ignore")

    broker_url: str | None = None
    lease_seconds: float = Field(30, gt=0)  # a worker that is silent for so long has lost its jobs
    cancel_grace_seconds: float = Field(10, ge=0)  # from asking a running job to stop to killing it
    owner_window: int = Field(16, ge=1)  # jobs of one owner in Redis at once, for each queue and priority
    batching: bool = True  # jobs that may run in one batch do so, and are held back for it
    affinity_jobs: int = Field(100, ge=1)  # how long a worker stays on one queue while another waits
    affinity_seconds: float = Field(300, gt=0)
    stop_grace_seconds: float = Field(8, ge=0)  # from SIGTERM to giving a running job back; Docker waits 10 s
    hit_rate_floor: float = Field(0.8, ge=0, le=1)  # of cached recommendations: below it the metrics alert
    hit_rate_reads: int = Field(100, ge=1)  # fewer, yesterday and today, say nothing
    log: Literal["text", "json"] = "text"


class Sentinels:
    """A sentinel URL taken apart."""

    def __init__(self, url: str) -> None:
        # kombu's own spelling, host;sentinel://host, is taken as well
        parts = urlsplit(re.sub(r";(sentinel://)?", ",", url))
        credentials, _, hosts = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        self.username, self.password = unquote(username) or None, unquote(password) or None
        self.hosts = [self._address(url, host) for host in hosts.split(",") if host]
        path = parts.path.strip("/").split("/")
        self.master = unquote(path[0])
        if not self.hosts or not self.master or len(path) > 2 or not (path[1:] or ["0"])[0].isdigit():
            raise SettingsError(
                f"{VARIABLE}={redact(url)}: a sentinel URL names its hosts and the master: "
                "use sentinel://host:26379,host:26379/master or …/master/0"
            )
        self.db = int((path[1:] or ["0"])[0])

    @staticmethod
    def _address(url: str, host: str) -> tuple[str, int]:
        name, _, port = host.partition(":")
        if not name or not (port or "0").isdigit():
            raise SettingsError(f"{VARIABLE}={redact(url)}: an address in it is not host:port: correct it")
        return name, int(port or SENTINEL_PORT)

    def kombu_url(self) -> str:
        """kombu takes credentials and database from the first address only."""
        credentials = ""
        if self.username or self.password:
            credentials = f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}@"
        first, *others = [f"{host}:{port}" for host, port in self.hosts]
        return ";".join([f"sentinel://{credentials}{first}/{self.db}", *(f"sentinel://{host}" for host in others)])


def _url() -> str:
    return settings().broker_url or _embedded_url()


def _embedded_url() -> str:
    from broker.embedded import url

    return url(db_settings().home)


def _checked(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in ("redis", "rediss", "redis+socket", "sentinel"):
        raise SettingsError(f"{VARIABLE}={redact(url)}: not a Redis URL: {EXAMPLES}")
    if scheme in ("redis", "rediss"):
        check_port(VARIABLE, url)
        parts = urlsplit(url)
        if not parts.hostname:
            raise SettingsError(f"{VARIABLE}={redact(url)}: names no host: {EXAMPLES}")
        if not (parts.path.strip("/") or "0").isdigit():
            raise SettingsError(f"{VARIABLE}={redact(url)}: the database is not a number: write /0 after host:port")
    if scheme == "rediss":
        return _with_tls(url)
    if scheme == "redis+socket" and not urlsplit(url).path.strip("/"):
        raise SettingsError(f"{VARIABLE}={redact(url)}: names no socket: use redis+socket:///path/to/redis.sock")
    return url


def _with_tls(url: str) -> str:
    """The URL with its TLS options as both kombu and redis-py spell them. The server must prove who it is.

    kombu's own default for rediss:// is to trust anybody.
    """
    parts = urlsplit(url)
    options = {"ssl_cert_reqs": "required", **dict(parse_qsl(parts.query))}
    options["ssl_cert_reqs"] = options["ssl_cert_reqs"].lower().removeprefix("cert_")
    if options["ssl_cert_reqs"] not in ("required", "optional", "none"):
        raise SettingsError(
            f"{VARIABLE}={redact(url)}: ssl_cert_reqs is not one of required, optional, none: correct it"
        )
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if name in options and not Path(options[name]).is_file():
            raise SettingsError(f"{VARIABLE}={redact(url)}: {name}: there is no file {options[name]}: correct the path")
    return parts._replace(query=urlencode(options)).geturl()


def redis_url() -> str:
    """The broker URL as kombu and Celery take it; does not need the server to be running."""
    url = _checked(_url())
    return Sentinels(url).kombu_url() if url.startswith("sentinel:") else url


def transport_options() -> dict[str, Any]:
    """What of the URL Celery takes as `broker_transport_options` instead."""
    url = _checked(_url())
    return {"master_name": Sentinels(url).master} if url.startswith("sentinel:") else {}


def make_client(**options: Any) -> "redis.Redis":
    """A redis-py client of the same server as the broker; `options` go to redis-py."""
    patience = {"socket_connect_timeout": 2, "socket_timeout": 5, "retry": Retry(NoBackoff(), 1)}
    options = {**patience, **options}  # redis-py's own retries would hold a caller for many seconds
    url = _checked(_url())
    if url.startswith("sentinel:"):
        given = Sentinels(url)
        group = Sentinel(given.hosts, **patience)  # type: ignore[no-untyped-call]
        options |= {"username": given.username, "password": given.password, "db": given.db}
        master: redis.Redis = group.master_for(given.master, **options)  # type: ignore[no-untyped-call]
        return master
    if url.startswith("redis+socket:"):
        parts = urlsplit(url)
        db = int(parse_qs(parts.query).get("virtual_host", ["0"])[0])
        who = {
            "username": parts.username and unquote(parts.username),
            "password": unquote(parts.password or "") or None,
        }
        return redis.Redis(unix_socket_path=unquote(parts.path), db=db, **{**who, **options})
    return redis.Redis.from_url(url, **options)


@cache
def settings() -> Settings:
    """The settings of this process, read once. Tests call `settings.cache_clear()`."""
    return read(Settings)
