"""Metrics for Prometheus, which can send a bearer token as well."""

from fastapi import APIRouter, Request, Response, Security
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from db.token import READ
from web.tokens import caller

router = APIRouter(tags=["health"], dependencies=[Security(caller, scopes=[READ])])

_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format."}


@router.get("/metrics", response_class=Response, responses={200: _TEXT})
def metrics(request: Request) -> Response:
    """The ledger's numbers, of one instant, and this process's requests."""
    return Response(request.app.state.measures.text(), media_type=CONTENT_TYPE_LATEST)
