"""The web door's application: `create(settings())` is what any ASGI server serves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware

from broker import tracing
from db.engine import dispose
from web import openapi, pages, problems
from web.feed import Feed
from web.gather import Gather
from web.limits import Guard, Rates
from web.measures import Measured, Measures
from web.pages.frame import errors
from web.routes import artifacts, events, health, jobs, kinds, metrics, models, predict, recommendations
from web.settings import Settings, listed
from web.tokens import Known

# Statements that wait for Postgres: more threads than this only wait for each other and for its connections.
THREADS = 16
_ABOUT = """Submit jobs, watch them and read their results. Errors are application/problem+json (RFC 9457) with a
stable `code`. The parameters of each kind of job are in the schemas named `Submission.<kind>`."""


def create(settings: Settings) -> FastAPI:
    """The application. Raises SettingsError for settings that would leave the door open."""
    settings.checked()
    # FastAPI traces requests itself, wherever a provider is set; its logs would quote what was refused.
    telemetry = TelemetryConfig(tracing=tracing.on(), metrics=False, logs=False, operation_spans=False)
    if tracing.on():
        tracing.tracer()
    app = FastAPI(
        title="Gristmill", version="1", description=_ABOUT, lifespan=_running, responses=problems.ANYWHERE,
        telemetry=telemetry,
        openapi_url="/api/openapi.json", docs_url=None, redoc_url=None,  # their pages load scripts from elsewhere
    )  # fmt: skip
    app.state.settings, app.state.guarded = settings, settings.guarded
    app.state.tokens, app.state.rates = Known(), Rates(settings.web_rate)
    app.state.feed, app.state.gather = Feed(), Gather()
    app.state.measures = Measures(app.state.feed)
    app.state.chosen = predict.Chosen(settings)
    app.state.problem_page = errors
    problems.install(app)
    for each in (kinds, jobs, events, recommendations, models, artifacts, predict, health, metrics):
        app.include_router(each.router)
    app.include_router(pages.router)
    openapi.install(app)
    if origins := listed(settings.web_origins):
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
            expose_headers=["Location", "Retry-After"],
        )  # fmt: skip
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Measured, measures=app.state.measures)
    return app


@asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    app.state.feed.start()
    try:
        yield
    finally:
        app.state.measures.stop()
        await app.state.feed.stop()
        dispose()
