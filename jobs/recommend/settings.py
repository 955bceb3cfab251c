"""How a worker serves recommendations, read from GRISTMILL_* variables."""

from functools import cache
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.settings import read

Engine = Literal["auto", "torch", "torch-fp32", "onnx", "int8"]


class Settings(BaseSettings):
    """One per process."""

    model_config = SettingsConfigDict(env_prefix="GRISTMILL_", env_ignore_empty=True, extra="ignore")

    recommend_engine: Engine = "auto"  # what computes the network on a CPU
    recommend_identical: float = Field(1.0, ge=0, le=1)  # share of lists that an engine must not change
    recommend_recall: float = Field(0.95, ge=0, le=1)  # of an index, at least; 1: every item is scored


@cache
def settings() -> Settings:
    """The settings of this process, read once. Tests call `settings.cache_clear()`."""
    return read(Settings)
