"""`python -m web`: what `gristmill web` becomes."""

import gc
import logging
import socket
import sys

import structlog
import uvicorn

from broker.address import announce, free_port, url
from broker.errors import summary
from broker.log import configure, handle
from db.settings import SettingsError
from web.app import create
from web.catalogue import kinds
from web.settings import Settings, settings

log = structlog.get_logger()

STOP_S = 3  # for requests that wait for a prediction
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
    kinds()  # or the first submission would wait until they are imported
    gc.freeze()  # to look through all that was imported would stop the loop for 0.1 s, again and again
    port = free_port(chosen.web_port, chosen.web_host)
    announce("web", url(chosen.web_host, port))
    config = uvicorn.Config(
        app, chosen.web_host, port, log_config=None, access_log=False, server_header=False, proxy_headers=False,
        backlog=BACKLOG, timeout_graceful_shutdown=STOP_S,
    )  # fmt: skip
    try:
        _Server(config).run()
    except OSError as error:
        raise SettingsError(f"{chosen.web_host}:{port}: {summary(error)}") from None


class _Server(uvicorn.Server):
    """Says when it listens. Ends what has no end of its own first, or uvicorn would wait STOP_S for it and log a
    traceback for each."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self.started:
            guarded = self.config.app.state.guarded  # type: ignore[union-attr]
            log.info("web_ready", tokens="needed" if guarded else "none, on the loopback address only")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self.config.app.state.feed.end()  # type: ignore[union-attr]
        await super().shutdown(sockets)


if __name__ == "__main__":
    main()
