"""Where Gristmill keeps things, from GRISTMILL_* variables: its home folder, PostgreSQL and the artifacts."""

import os
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

CLONE = Path(__file__).resolve().parents[1]
DATABASE_EXAMPLE = "postgresql://user:password@host:5432/gristmill"

S = TypeVar("S", bound=BaseSettings)


class SettingsError(Exception):
    """A setting that cannot be used; the message is one line that names the variable and the remedy."""


# Whose passwords must not be seen, wherever they turn up: those of URLs, and secrets as they are.
_URLS = ("GRISTMILL_DATABASE_URL", "GRISTMILL_BROKER_URL", "GRISTMILL_ARTIFACTS_URL", "GRISTMILL_DATABASES")
_SECRETS = ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_LOGINS = ("GRISTMILL_FLOWER_AUTH", "FLOWER_BASIC_AUTH")  # user:password, several separated by commas
_TELLING = 8  # characters from which a secret is looked for by itself: "mill" would be found in "gristmill"

# Greedy up to the last @: an unquoted password may itself contain @ / ; or a comma, and in a URL alone also spaces.
# Bounded, or a long text of a hostile message would take seconds.
_IN_URL = re.compile(r"(?s)^([a-zA-Z][a-zA-Z0-9+.-]{0,30}://[^:@/?#;,]*):.*@")
_IN_TEXT = re.compile(r"""(://[^\s:@/?#;,'"]{0,200}):[^\s'"]{0,500}@""")
# Both cases spelled out: ignoring case takes four times as long.
_NAMED = re.compile(
    r"""((?:password|passwd|secret|secret_access_key|token|PASSWORD|PASSWD|SECRET|SECRET_ACCESS_KEY|TOKEN)["']?\s*=\s*)"""
    r"""("[^"]*"|'[^']*'|[^\s&;,'")]+)"""
)


def redact(text: str) -> str:
    """The text without the secrets of URLs and of this process's settings: for messages, logs and rows.

    Hides too much rather than too little.
    """
    for secret in _known(tuple(map(os.environ.get, (*_URLS, *_LOGINS, *_SECRETS)))):
        text = text.replace(secret, "***")
    if "://" in text:
        text = _IN_TEXT.sub(r"\1:***@", _IN_URL.sub(r"\1:***@", text))
    return _NAMED.sub(r"\1***", text) if "=" in text else text


@lru_cache(maxsize=8)
def _known(values: tuple[str | None, ...]) -> list[str]:
    """The secrets in these values, as they are and as URLs quote them; the longest first, as one may hold another."""
    urls = [url for given in filter(None, values[: len(_URLS)]) for url in _urls(given)]
    found = set(filter(None, values[len(_URLS) :]))
    logins = filter(None, values[len(_URLS) : len(_URLS) + len(_LOGINS)])
    found |= {password for each in logins for password in re.findall(r":([^,]+)", each)}
    for url in urls:  # by hand, since what is no URL is to be hidden too
        found.update(re.findall(r"(?s)://[^:@/?#;,]*:(.*)@", url))
        found.update(re.findall(r"[?&]\w*(?:password|secret|token)\w*=([^&]*)", url))
    found |= {unquote(each) for each in found}
    found |= {quote(each, safe="") for each in found}
    users = {user for url in urls for user in re.findall(r"://([^:@/?#;,]*):", url)}  # postgres:postgres hides nothing
    return sorted((each for each in found - users if len(each) >= _TELLING), key=len, reverse=True)


def _urls(value: str) -> list[str]:
    """The URLs in a variable: one, or those of a JSON object."""
    return re.findall(r'"([^"]*://[^"]*)"', value) if value.lstrip().startswith("{") else [value]


def read(settings_class: type[S]) -> S:
    """Build a settings class from the environment; a value of the wrong type is one clear line."""
    try:
        return settings_class()
    except ValidationError as error:
        first = error.errors()[0]
        prefix = settings_class.model_config.get("env_prefix", "")
        variable = f"{prefix}{'_'.join(str(part) for part in first['loc'])}".upper()
        given = redact(str(first["input"]))
        raise SettingsError(f"{variable}={given!r}: {first['msg']}: change or unset it") from None


def check_port(variable: str, url: str) -> None:
    """Refuse a port that is not a number between 0 and 65535."""
    try:
        _ = urlsplit(url).port
    except ValueError:  # its text may quote an unquoted password
        remedy = "write host:port with a number up to 65535, and in a password %40 for @, %2F for / and %3A for :"
        raise SettingsError(f"{variable}={redact(url)}: the port is not right: {remedy}") from None


class Settings(BaseSettings):
    """Unset URLs mean: embedded, under `home`."""

    model_config = SettingsConfigDict(env_prefix="GRISTMILL_", env_ignore_empty=True, extra="ignore")

    home: Path = CLONE / ".gristmill" if (CLONE / "Procfile").exists() else Path(".gristmill")
    database_url: str | None = Field(None, repr=False)
    artifacts_url: str | None = Field(None, repr=False)

    def model_post_init(self: Self, _context: object) -> None:
        self.home = self.home.expanduser().absolute()

    def postgres_url(self) -> str:
        """The SQLAlchemy URL of PostgreSQL; the embedded server must be running when no URL is set."""
        if self.database_url:
            return sqlalchemy_url(self.database_url)
        from db import embedded

        url = embedded.url(self.home)
        if url is None:
            raise SettingsError(
                f"Postgres is not running under {self.home}: "
                "start it with `gristmill up`, or set GRISTMILL_DATABASE_URL"
            )
        return url

    def artifacts(self) -> str:
        """The fsspec URL of the artifact store; a plain path becomes a file:// URL."""
        url = self.artifacts_url or str(self.home / "artifacts")
        if "://" not in url:
            return f"file://{Path(url).expanduser().absolute()}"
        scheme, _, place = url.partition("://")
        from fsspec.registry import known_implementations

        if scheme not in known_implementations:
            raise SettingsError(
                f"GRISTMILL_ARTIFACTS_URL={redact(url)}: unknown scheme {scheme!r}: "
                "use a folder, file:///folder or s3://bucket/prefix"
            )
        if not place.strip("/"):
            raise SettingsError(
                f"GRISTMILL_ARTIFACTS_URL={redact(url)}: names no folder or bucket: "
                "use a folder, file:///folder or s3://bucket/prefix"
            )
        return url


def sqlalchemy_url(url: str) -> str:
    """Turn a user's postgres:// or postgresql:// URL into the one of the psycopg driver."""
    variable = "GRISTMILL_DATABASE_URL"
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise SettingsError(f"{variable}={redact(url)}: not a PostgreSQL URL: use {DATABASE_EXAMPLE}")
    check_port(variable, url)
    parts = urlsplit(url)
    if not parts.hostname and "host" not in parse_qs(parts.query):
        raise SettingsError(f"{variable}={redact(url)}: names no host: use {DATABASE_EXAMPLE}")
    if not parts.path.strip("/"):
        raise SettingsError(f"{variable}={redact(url)}: names no database: use {DATABASE_EXAMPLE}")
    return f"postgresql+psycopg://{rest}"


@cache
def settings() -> Settings:
    """The settings of this process, read once. Tests call `settings.cache_clear()`."""
    return read(Settings)
