"""Where Gristmill keeps things, from GRISTMILL_* variables: its home folder, PostgreSQL and the artifacts."""

import re
from functools import cache
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

CLONE = Path(__file__).resolve().parents[1]
DATABASE_EXAMPLE = "postgresql://user:password@host:5432/gristmill"

S = TypeVar("S", bound=BaseSettings)


class SettingsError(Exception):
    """A setting that cannot be used; the message is one line that names the variable and the remedy."""


def redact(url: str) -> str:
    """The URL without its secrets, for messages and logs. Hides too much rather than too little."""
    # Greedy up to the last @: an unquoted password may itself contain @ / ; or a comma.
    hidden = re.sub(r"://([^:@/?#;,]*):.*@", r"://\1:***@", url, flags=re.DOTALL)
    return re.sub(r"(?i)((?:password|secret|token)[^=&;]*=)[^&;]*", r"\1***", hidden)


def read(settings_class: type[S]) -> S:
    """Build a settings class from the environment; a value of the wrong type is one clear line."""
    try:
        return settings_class()
    except ValidationError as error:
        first = error.errors()[0]
        prefix = settings_class.model_config.get("env_prefix", "")
        variable = f"{prefix}{'_'.join(str(part) for part in first['loc'])}".upper()
        raise SettingsError(f"{variable}={str(first['input'])!r}: {first['msg']}: change or unset it") from None


def check_port(variable: str, url: str) -> None:
    """Refuse a port that is not a number between 0 and 65535."""
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise SettingsError(f"{variable}={redact(url)}: {error}: write host:port with a number") from None


class Settings(BaseSettings):
    """Unset URLs mean: embedded, under `home`."""

    model_config = SettingsConfigDict(env_prefix="GRISTMILL_", env_ignore_empty=True, extra="ignore")

    home: Path = CLONE / ".gristmill" if (CLONE / "Procfile").exists() else Path(".gristmill")
    database_url: str | None = None
    artifacts_url: str | None = None

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
