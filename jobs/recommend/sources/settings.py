"""What a worker says of the sources that it may read, from GRISTMILL_* variables."""

import json
from functools import cache
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.settings import SettingsError, read

VARIABLE = "GRISTMILL_DATABASES"
_EXAMPLE = '{"shop": "postgresql+psycopg://user:password@host/name"}'


class Settings(BaseSettings):
    """One per process. No job's parameter says where requests go, or with which password."""

    model_config = SettingsConfigDict(env_prefix="GRISTMILL_", env_ignore_empty=True, extra="ignore")

    anilist_url: Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$")] = "https://graphql.anilist.co"
    anilist_days: float = Field(7, gt=0)  # for which an answer is good
    anilist_per_minute: float = Field(30, gt=0)  # requests, to begin with; its answers say how many it takes now
    databases: str = Field("{}", repr=False)  # JSON: name -> SQLAlchemy URL

    def connections(self) -> dict[str, str]:
        """The URLs of databases by their names. Raises SettingsError, which quotes none."""
        try:
            found = json.loads(self.databases)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(url, str) for url in found.values()):
            raise SettingsError(f"{VARIABLE} is no JSON object of names and URLs: write it like {_EXAMPLE}")
        return found


@cache
def settings() -> Settings:
    """The settings of this process, read once. Tests call `settings.cache_clear()`."""
    return read(Settings)
