"""The dashboard: pages made on the server, which work without a script, on a phone and by the keyboard alone."""

from fastapi import APIRouter

from web.pages.artifact import router as artifact_routes
from web.pages.classify import router as classify_routes
from web.pages.edits import router as edits_routes
from web.pages.entry import router as entry_routes
from web.pages.job import router as job_routes
from web.pages.jobs import router as jobs_routes
from web.pages.models import router as models_routes
from web.pages.new import router as new_routes
from web.pages.overview import router as overview_routes
from web.pages.promote import router as promote_routes
from web.pages.recommendations import router as recommendations_routes
from web.pages.static import router as static_routes

router = APIRouter(include_in_schema=False)
for each in (
    overview_routes,
    jobs_routes,
    new_routes,
    job_routes,
    edits_routes,
    classify_routes,
    artifact_routes,
    recommendations_routes,
    models_routes,
    promote_routes,
    entry_routes,
    static_routes,
):
    router.include_router(each)
