"""Which adapters a worker trusts, read from GRISTMILL_* variables."""

from functools import cache

from pydantic_settings import BaseSettings, SettingsConfigDict

from db.settings import read


class Settings(BaseSettings):
    """One per process."""

    model_config = SettingsConfigDict(env_prefix="GRISTMILL_", env_ignore_empty=True, extra="ignore")

    edit_adapters: str = ""  # class paths beside the built-in ones: "media.models.Mine,media.more.*"


@cache
def settings() -> Settings:
    """The settings of this process, read once. Tests call `settings.cache_clear()`."""
    return read(Settings)
