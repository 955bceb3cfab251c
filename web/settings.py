"""How the web door listens, whom it lets in and what it bears, read from GRISTMILL_* variables."""

from functools import cache
from typing import Final, Literal, Self

from pydantic import ByteSize, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from broker.address import is_loopback
from db.settings import SettingsError, read

API: Final = "/api/v1"


class Settings(BaseSettings):
    """One per process."""

    model_config = SettingsConfigDict(env_prefix="GRISTMILL_", env_ignore_empty=True, extra="ignore")

    web_host: str = "127.0.0.1"
    web_port: int = Field(8004, ge=0, le=65535)
    web_auth: Literal["auto", "on", "off"] = "auto"  # auto: off on the loopback address, on elsewhere
    web_hosts: str = ""  # names beside the address under which a browser may know the door without tokens
    web_origins: str = ""  # pages of these origins may call it: "https://shop.example,https://…"
    web_body_bytes: ByteSize = Field(ByteSize(4 << 20), ge=1024)
    web_rate: float = Field(300, ge=0)  # requests a second of one token, or of one address without; 0: any
    web_listeners: int = Field(5000, ge=1)  # streams of events at once
    predict_model: str | None = None  # what POST /predict asks: NAME or NAME@VERSION of the registry
    predict_seconds: float = Field(10, gt=0, le=300)  # within which it answers

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.web_host)

    @property
    def guarded(self) -> bool:
        """Whether callers need a token."""
        return self.web_auth == "on" or (self.web_auth == "auto" and not self.on_loopback)

    def checked(self) -> Self:
        """Raises SettingsError for a door that would stand open to others."""
        if self.web_auth == "off" and not self.on_loopback:
            raise SettingsError(
                f"GRISTMILL_WEB_AUTH=off on {self.web_host}: anybody who reaches it could run jobs: "
                "leave it away and make tokens with `gristmill tokens create`, or listen on 127.0.0.1"
            )
        return self


def listed(value: str) -> list[str]:
    """The parts of a setting that are separated by commas."""
    return [part.strip() for part in value.split(",") if part.strip()]


@cache
def settings() -> Settings:
    """The settings of this process, read once. Tests call `settings.cache_clear()`."""
    return read(Settings)
