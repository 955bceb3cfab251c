"""The OpenAPI document: FastAPI's, with the parameters of every declared job in it."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from web import catalogue
from web.problems import ProblemDetails
from web.submission import Submission, Submissions

_SHARED = ("kind", "params")


def install(app: FastAPI) -> None:
    """Let the app describe itself."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _made(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _made(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    by_kind, definitions = catalogue.schemas()
    schemas.update(definitions)
    schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
    options = Submission.model_json_schema()["properties"]
    options = {name: each for name, each in options.items() if name not in _SHARED}
    for kind, parameters in by_kind.items():
        schemas[f"Submission.{kind}"] = {
            "title": kind,
            "type": "object",
            "properties": {"kind": {"const": kind}, "params": parameters, **options},
            "required": ["kind", "params"],
            "additionalProperties": False,
        }
    named = {kind: f"#/components/schemas/Submission.{kind}" for kind in by_kind}
    schemas["Submission"] = {
        "oneOf": [{"$ref": each} for each in named.values()],
        "discriminator": {"propertyName": "kind", "mapping": named},
    }
    many = Submissions.model_json_schema()
    many.pop("$defs")
    many["properties"]["jobs"]["items"] = {"$ref": "#/components/schemas/Submission"}
    schemas["Submissions"] = many
    components["requestBodies"] = {
        name: {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}
        for name in ("Submission", "Submissions")
    }
    return made
