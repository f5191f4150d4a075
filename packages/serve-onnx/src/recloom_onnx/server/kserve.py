"""The Open Inference Protocol (KServe v2) over HTTP, with its extension for tensors as bytes."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from pydantic import TypeAdapter
from recloom.errors import RecloomError
from recloom.io import version as installed
from starlette.responses import Response

from ..artifact.ids import Array
from ..artifact.manifest import Port
from ..artifact.session import NAMES, OPTIONAL
from .http_errors import OVERLOADED, RETRY, HttpError, brief
from .models import Models, Served
from .openapi import ERRORS, body_of
from .tensor_codec import DATATYPES, InferRequest, InputTensor, read_tensor, to_bytes, to_json
from .tensors import DEFAULT_K, Inputs, check_size
from .validation import json_response, parse_body

HEADER = "Inference-Header-Content-Length"
PLATFORM = "onnxruntime_onnx"
UNSUPPORTED = ("shared_memory_region", "classification")
_INFER = TypeAdapter(InferRequest)
Outputs = dict[str, Array]


def kserve(models: Models) -> APIRouter:
    """The routes of the protocol."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @router.get("/health/live", summary="Whether the server runs")
    async def live() -> Response:
        return json_response({"live": True})

    @router.get("/health/ready", summary="Whether every model can be asked", responses={503: ERRORS[503]})
    async def ready() -> Response:
        if not models.ready:
            raise HttpError("not ready: models are being loaded, or the server ends", OVERLOADED, RETRY)
        return json_response({"ready": True})

    @router.get("", summary="The server")
    async def server() -> Response:
        extensions = ["binary_tensor_data", "model_repository"]
        return json_response(
            {"name": "recloom", "version": installed("recloom-onnx"), "extensions": extensions}
        )

    @router.get("/models/{model}", summary="A model's inputs and outputs", responses=ERRORS)
    @router.get("/models/{model}/versions/{version}", summary="Those of a version", responses=ERRORS)
    async def metadata(model: str, version: str | None = None) -> Response:
        return json_response(describe(models.find(model, version), list(models.versions(model))))

    @router.get("/models/{model}/ready", summary="Whether a model can be asked", responses=ERRORS)
    @router.get("/models/{model}/versions/{version}/ready", summary="Whether a version can", responses=ERRORS)
    async def model_ready(model: str, version: str | None = None) -> Response:
        found = models.find(model, version)
        return json_response({"name": found.name, "version": found.version, "ready": True})

    infer_body = body_of(InferRequest)

    @router.post("/models/{model}/infer", summary="Ask a model", responses=ERRORS, openapi_extra=infer_body)
    @router.post(
        "/models/{model}/versions/{version}/infer",
        summary="Ask a version of a model",
        responses=ERRORS,
        openapi_extra=infer_body,
    )
    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        served = models.find(model, version)
        asked, tail = split(await request.body(), request.headers.get(HEADER))
        given, k = inputs_of(asked, tail, served)
        unknown = served.unknown_counts(given)
        ids, scores = await served.answer(given, k)
        return response(asked, dict(zip(NAMES, (ids, scores), strict=True)), served, unknown)

    @router.post("/repository/index", summary="What is served")
    async def index() -> Response:
        return json_response([{"name": s.name, "version": s.version, "state": "READY"} for s in models])

    @router.post("/repository/models/{model}/load", summary="Load a model anew from disk", responses=ERRORS)
    async def load(model: str) -> Response:
        try:
            found = await models.load(model)
        except HttpError:
            raise
        except RecloomError as error:
            raise HttpError(
                f"model {model} stays as it was, because the new one was refused: {error}"
            ) from error
        return json_response({"name": model, "versions": [served.version for served in found]})

    return router


def describe(served: Served, versions: list[str]) -> dict[str, Any]:
    """A model's metadata."""
    manifest = served.session.manifest
    return {
        "name": served.name,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": [_tensor(port) for port in manifest.inputs],
        "outputs": [_tensor(port) for port in manifest.outputs],
    }


def _tensor(port: Port) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in port.shape]
    return {"name": port.name, "datatype": DATATYPES[port.type], "shape": shape}


def split(body: bytes, length: str | None) -> tuple[InferRequest, bytes]:
    """The JSON of a request, and the bytes behind it."""
    if length is None:
        return parse_body(_INFER, body), b""
    if not length.isdecimal() or len(length) > 12 or int(length) > len(body):
        raise HttpError(
            f"header {HEADER}: expected the length of the JSON in bytes, 0 to {len(body)}, found {brief(length)}"
        )
    return parse_body(_INFER, body[: int(length)]), body[int(length) :]


def inputs_of(asked: InferRequest, tail: bytes, served: Served) -> tuple[Inputs, int]:
    """Arrays by name without defaults, and k."""
    ports = {port.name: port for port in served.session.manifest.inputs}
    tensors = _by_name(asked.inputs, ports, served)
    given: Inputs = {}
    at = 0
    for name, tensor in tensors.items():
        raw, at = _bytes_of(tensor, tail, at)
        given[name] = read_tensor(tensor, ports[name], raw)
    if at != len(tail):
        raise HttpError(
            f"{len(tail)} bytes follow the JSON, and the inputs take {at} of them with binary_data_size"
        )
    k = int(given.pop("k")[0]) if "k" in given else DEFAULT_K
    if k < 1:
        raise HttpError(f"input k is the length of the lists and must be 1 or more, found {k}")
    rows = len(given["history"])
    if not rows:
        raise HttpError("input history has no rows; expected one for each list that is asked for")
    check_size({name: array.size for name, array in given.items()}, rows, k)
    return given, k


def _by_name(inputs: list[InputTensor], ports: dict[str, Port], served: Served) -> dict[str, InputTensor]:
    tensors = {tensor.name: tensor for tensor in inputs}
    unknown = next((name for name in tensors if name not in ports), None)
    if unknown is not None:
        raise HttpError(f"{served.name} has no input {brief(unknown)}; its inputs are {', '.join(ports)}")
    if len(tensors) < len(inputs):
        raise HttpError("an input is given twice; expected each once")
    missing = [name for name in ports if name not in tensors and name not in OPTIONAL and name != "k"]
    if missing:
        found = ", ".join(tensors) or "none"
        raise HttpError(
            f"input {missing[0]} is missing; {served.name} reads {', '.join(ports)}, found {found}"
        )
    return tensors


def _bytes_of(tensor: InputTensor, tail: bytes, at: int) -> tuple[bytes | None, int]:
    """The bytes of a tensor, which begin at a place behind the JSON, and the place behind them."""
    parameters = tensor.parameters or {}
    _check_parameters(parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        return None, at
    if type(size) is not int or not 0 <= size <= len(tail) - at:
        raise HttpError(
            f"input {tensor.name}: expected a binary_data_size of 0 to {len(tail) - at}, the bytes behind the JSON "
            f"that header {HEADER} leaves, found {brief(size)}"
        )
    return tail[at : at + size], at + size


def _check_parameters(parameters: dict[str, Any]) -> None:
    for name in UNSUPPORTED:
        if name in parameters:
            raise HttpError(
                f"parameter {name} is not offered; send and ask for tensors in the request and its answer"
            )


def response(asked: InferRequest, found: Outputs, served: Served, ignored: dict[str, int]) -> Response:
    """The outputs that were requested, as JSON or bytes, with the counts of what was ignored as parameters."""
    parameters = asked.parameters or {}
    usual = parameters.get("binary_data_output") is True
    wanted = dict.fromkeys(found, usual)
    if asked.outputs:
        wanted = {one.name: _binary(one.parameters or {}, usual) for one in asked.outputs}
    unknown = next((name for name in wanted if name not in found), None)
    if unknown is not None:
        raise HttpError(f"{served.name} has no output {brief(unknown)}; its outputs are {', '.join(found)}")
    types = {port.name: DATATYPES[port.type] for port in served.session.manifest.outputs}
    outputs, tail = [], b""
    for name, binary in wanted.items():
        array = found[name]
        tensor: dict[str, Any] = {"name": name, "datatype": types[name], "shape": list(array.shape)}
        if binary:
            raw = to_bytes(array)
            tensor["parameters"] = {"binary_data_size": len(raw)}
            tail += raw
        else:
            tensor["data"] = to_json(array)
        outputs.append(tensor)
    head = {
        "model_name": served.name,
        "model_version": served.version,
        "parameters": ignored,
        "outputs": outputs,
    }
    if asked.id is not None:
        head["id"] = asked.id
    if not any(wanted.values()):
        return json_response(head)
    text = json.dumps(head, allow_nan=False).encode()
    return Response(text + tail, headers={HEADER: str(len(text))}, media_type="application/octet-stream")


def _binary(parameters: dict[str, Any], usual: bool) -> bool:
    _check_parameters(parameters)
    binary = parameters.get("binary_data", usual)
    if not isinstance(binary, bool):
        raise HttpError(f"parameter binary_data is true or false, found {brief(binary)}")
    return binary
