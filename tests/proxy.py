"""A door to a server of the tests on a loopback port, with or without TLS: the embedded servers know only sockets."""

import asyncio
import contextlib
import ssl
import threading
from asyncio import StreamReader, StreamWriter
from typing import Self

SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])  # how a client of Postgres asks for TLS


class Proxy:
    """Passes on what comes to `port` to a unix socket or a loopback port, until the block ends.

    tls: clients must speak it. postgres: they ask for it first, in Postgres' own way.
    """

    def __init__(self, target: str | int, *, tls: ssl.SSLContext | None = None, postgres: bool = False) -> None:
        self._target, self._tls, self._postgres = target, tls, postgres
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0
        self.encrypted = 0  # connections whose handshake succeeded

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(20)
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _listen(self) -> None:
        at_once = None if self._postgres else self._tls
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=at_once)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()  # no more are taken; those that are open end here
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, client: StreamReader, answer: StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ssl.SSLError, asyncio.CancelledError):
            if self._tls and self._postgres:
                assert await client.readexactly(len(SSL_REQUEST)) == SSL_REQUEST
                answer.write(b"S")
                await answer.start_tls(self._tls)
            self.encrypted += self._tls is not None
            opened = asyncio.open_unix_connection if isinstance(self._target, str) else _open_port
            server, ask = await opened(self._target)  # type: ignore[operator]
            try:
                await asyncio.wait(
                    [asyncio.create_task(_pass_on(client, ask)), asyncio.create_task(_pass_on(server, answer))],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                ask.close()
        answer.close()


async def _open_port(port: int) -> tuple[StreamReader, StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def _pass_on(source: StreamReader, to: StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await source.read(1 << 16):
            to.write(data)
            await to.drain()
