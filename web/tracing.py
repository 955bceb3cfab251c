"""A span for each request, within the trace of whoever asks; what the request submits is a child of it.

Only where broker.tracing is on. Names are those of OpenTelemetry's semantic conventions for HTTP servers. Neither the
query nor a header is kept: they may hold a token.
"""

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.tracing import extracted, tracer

_ERROR = 500


class Traced:
    """ASGI middleware; the outermost, so that what the others refuse is seen as well."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        said = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
        }
        options: dict[str, Any] = {"record_exception": False, "set_status_on_exception": False}
        with tracer().start_as_current_span(
            scope["method"], extracted(headers), SpanKind.SERVER, said, **options
        ) as span:

            async def answer(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= _ERROR:
                        span.set_status(Status(StatusCode.ERROR))
                        span.set_attribute("error.type", str(message["status"]))
                await send(message)

            try:
                await self._app(scope, receive, answer)
            except Exception as error:
                span.set_status(Status(StatusCode.ERROR))
                span.set_attribute("error.type", type(error).__qualname__)
                raise
            finally:
                if route := getattr(scope.get("route"), "path", None):  # known once the router has chosen
                    span.set_attribute("http.route", route)
                    span.update_name(f"{scope['method']} {route}")
