"""How worker processes behave, read from GRISTMILL_* variables."""

from functools import cache

from pydantic import ByteSize, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.settings import read


class Settings(BaseSettings):
    """One per process."""

    model_config = SettingsConfigDict(env_prefix="GRISTMILL_", env_ignore_empty=True, extra="ignore")

    device: str = "auto"  # "auto" takes an accelerator when there is one; "cpu", "cuda", "cuda:1", "mps"
    model_memory: ByteSize | None = None  # what resident models may take on the device, in each process
    host_memory: ByteSize | None = None  # and of what was moved out of it
    flower_auth: str | None = Field(None, repr=False)  # user:password, several separated by commas


@cache
def settings() -> Settings:
    """The settings of this process, read once. Tests call `settings.cache_clear()`."""
    return read(Settings)
