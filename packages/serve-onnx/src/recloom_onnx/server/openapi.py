"""The OpenAPI document: FastAPI's, with the bodies that routes parse themselves, and one error schema."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

REFERENCE = "#/components/schemas/{model}"


class Problem(BaseModel):
    """An error response."""

    error: str = Field(description="What is wrong, what was expected, what was found, and the next step.")


REASONS = {
    400: "The request makes no sense; the message says what was expected and found.",
    401: "The server's token is missing.",
    404: "No such model, version or path.",
    408: "The request was not complete in time.",
    413: "The body is too large.",
    415: "The body is compressed.",
    429: "Too many requests are in work.",
    500: "The server failed; its log has the reason.",
    503: "Not now: too many wait, a model is being loaded, or the server ends.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": reason} for status, reason in REASONS.items()
}
_bodies: set[type[BaseModel]] = set()


def body_of(model: type[BaseModel], many: bool = False) -> dict[str, Any]:
    """The part of a route's document that describes its body: the model, or also a list of it."""
    _bodies.add(model)
    schema: dict[str, Any] = {"$ref": REFERENCE.format(model=model.__name__)}
    if many:
        schema = {"oneOf": [schema, {"type": "array", "items": schema}]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def document(app: FastAPI, token: bool) -> dict[str, Any]:
    """The OpenAPI document of an application whose errors are all of class Problem."""
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, schemas = models_json_schema([(model, "validation") for model in _bodies], ref_template=REFERENCE)
    components = found.setdefault("components", {})
    known = components.setdefault("schemas", {})
    known |= schemas["$defs"]
    for name in ("HTTPValidationError", "ValidationError"):
        known.pop(name, None)
    for path in found["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found
