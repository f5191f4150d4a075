"""The application: routes, errors, and what stands around them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from recloom.errors import RecloomError
from recloom.io import version
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from .http_errors import Refused, brief
from .kserve import kserve
from .limits import RequestLimits
from .models import Models
from .observe import Metrics, Observe, unexpected
from .openapi import document
from .pages import pages
from .rest import people
from .settings import Settings
from .validation import answer, wrong

ABOUT = 'Recommendations from verified artefacts. Errors are `{"error": message}`.'


def application(models: Models, settings: Settings, metrics: Metrics) -> ASGIApp:
    """The ASGI application of a server."""
    app = FastAPI(
        title="Recloom", version=version("recloom-onnx") or "unknown", description=ABOUT,
        docs_url=None, redoc_url=None, openapi_url=None,
    )  # fmt: skip
    for router in (people(models), kserve(models), pages()):
        app.include_router(router)
    schema: dict[str, Any] = {}

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        if not schema:
            schema.update(document(app, settings.token is not None))
        return answer(schema)

    @app.get("/metrics", tags=["Operations"], summary="Metrics for Prometheus", response_class=Response)
    async def measured() -> Response:
        return Response(metrics.text(models), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_exception_handler(RecloomError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    return Observe(RequestLimits(app, settings, models), metrics)


async def _refused(request: Request, error: Exception) -> Response:
    response = answer({"error": str(error)}, error.status if isinstance(error, Refused) else 400)
    if isinstance(error, Refused):
        response.headers.update(error.headers)
    return response


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return answer({"error": wrong(first["loc"][1:], first["type"], first["msg"], first["input"])}, 400)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = brief(request.scope["path"])
    words = {
        404: f"there is nothing at {path}; /docs lists what there is",
        405: f"{brief(request.method)} is not possible at {path}; /docs lists what is",
    }
    response = answer({"error": words.get(error.status_code, str(error.detail))}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _unexpected(request: Request, error: Exception) -> Response:
    identity = request.scope["state"]["request_id"]
    return Response(unexpected(identity), 500, media_type="application/json")
