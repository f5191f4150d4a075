"""Bodies of requests, checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from .http_errors import Refused, brief

Checked = TypeVar("Checked")
EITHER = frozenset({"str", "int"})
"""What pydantic adds to the place of a fault in something that may be of either type."""


def read(kind: TypeAdapter[Checked], body: bytes) -> Checked:
    """A body of JSON as what it should be; Refused with the first thing that is wrong."""
    try:
        return kind.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise Refused(
                f"the body is not JSON in UTF-8: {first['msg'].removeprefix('Invalid JSON: ')}"
            ) from error
        raise Refused(wrong(first["loc"], first["type"], first["msg"], first["input"])) from error


def wrong(place: Sequence[str | int], kind: str, message: str, found: Any) -> str:
    """What is wrong with a part of a request, in words.

    Args:
        place: keys and positions that lead to it.
        kind: of the error, as pydantic calls it.
        message: pydantic's.
        found: the part.
    """
    where = ".".join(str(part) for part in place if part not in EITHER) or "the body"
    if kind == "missing":
        return f"{where} is missing"
    if kind == "extra_forbidden":
        return f"{where} is not a field of this request; the API page at /docs lists the fields"
    if EITHER & {*place}:
        return f"{where}: expected an id, which is text or a whole number, found {brief(found)}"
    what = message.removeprefix("Input should be ").removeprefix("List should ")
    return f"{where}: expected {what[0].lower()}{what[1:]}, found {brief(found)}"


def answer(content: Any, status: int = 200) -> Response:
    """Strict JSON: a number that JSON cannot hold would be an error here."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "replace"), status, media_type="application/json")


def check_text(values: Sequence[Any], where: str) -> None:
    """Refused for text that no id can be: runtimes end a string at its first NUL."""
    wrong = next((value for value in values if isinstance(value, str) and "\0" in value), None)
    if wrong is not None:
        raise Refused(f"{where} holds an id with a NUL character, {brief(wrong)}; no id has one")
