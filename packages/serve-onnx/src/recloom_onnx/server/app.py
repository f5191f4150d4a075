"""The ASGI application: routes, error handlers and middleware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from recloom.errors import RecloomError
from recloom.io import version
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from .http_errors import HttpError, brief
from .kserve import kserve
from .limits import RequestLimits
from .models import Models
from .observation import Metrics, RequestObserver, internal_error_body
from .openapi import document
from .pages import pages
from .rest import rest
from .settings import Settings
from .stages import Stages
from .validation import fault_message, json_response

if TYPE_CHECKING:
    from recloom.runs import ServerStage

ABOUT = 'Recommendations from verified artefacts. Errors are `{"error": message}`.'


def application(
    models: Models, settings: Settings, metrics: Metrics, stages: Sequence[ServerStage] = ()
) -> ASGIApp:
    """The ASGI application of a server.

    Args:
        models: what is served.
        settings: limits.
        metrics: counters.
        stages: applied in order to every list of `/recommend`; see `find_stages`.
    """
    applied = Stages(stages, settings.concurrency, metrics.stage)
    app = FastAPI(
        title="Recloom", version=version("recloom-onnx") or "unknown", description=ABOUT,
        docs_url=None, redoc_url=None, openapi_url=None,
    )  # fmt: skip
    for router in (rest(models, applied), kserve(models), applied.routes(), pages()):
        app.include_router(router)
    schema: dict[str, Any] = {}

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        if not schema:
            schema.update(document(app, settings.token is not None))
        return json_response(schema)

    @app.get("/metrics", tags=["Operations"], summary="Metrics for Prometheus", response_class=Response)
    async def measured() -> Response:
        return Response(metrics.text(models), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_exception_handler(RecloomError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    return RequestObserver(RequestLimits(app, settings, models), metrics)


async def _refused(request: Request, error: Exception) -> Response:
    response = json_response({"error": str(error)}, error.status if isinstance(error, HttpError) else 400)
    if isinstance(error, HttpError):
        response.headers.update(error.headers)
    return response


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return json_response(
        {"error": fault_message(first["loc"][1:], first["type"], first["msg"], first["input"])}, 400
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = brief(request.scope["path"])
    words = {
        404: f"there is nothing at {path}; /docs lists what there is",
        405: f"{brief(request.method)} is not possible at {path}; /docs lists what is",
    }
    response = json_response({"error": words.get(error.status_code, str(error.detail))}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _unexpected(request: Request, error: Exception) -> Response:
    identity = request.scope["state"]["request_id"]
    return Response(internal_error_body(identity), 500, media_type="application/json")
