"""`python -m web`: what `gristmill web` becomes."""

import logging
import sys

import uvicorn

from broker.address import announce, free_port, url
from broker.errors import summary
from broker.log import configure, handle
from db.settings import SettingsError
from web.app import create
from web.settings import Settings, settings

STOP_S = 3  # streams of events have no end of their own
BACKLOG = 2048


def main() -> None:
    """Serve until SIGINT or SIGTERM, on the first free port from the wanted one on."""
    try:
        serve(settings())
    except SettingsError as error:
        sys.exit(f"gristmill: {error}")


def serve(chosen: Settings) -> None:
    """The same with these settings. Raises SettingsError."""
    configure()
    handle(logging.getLogger())
    app = create(chosen)
    port = free_port(chosen.web_port, chosen.web_host)
    announce("web", url(chosen.web_host, port))
    config = uvicorn.Config(
        app, chosen.web_host, port, log_config=None, access_log=False, server_header=False, proxy_headers=False,
        backlog=BACKLOG, timeout_graceful_shutdown=STOP_S,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run()
    except OSError as error:
        raise SettingsError(f"{chosen.web_host}:{port}: {summary(error)}") from None


if __name__ == "__main__":
    main()
