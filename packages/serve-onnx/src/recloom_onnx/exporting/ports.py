"""Inputs and outputs of an artefact: names, types, shapes and meanings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from recloom.errors import RecloomError
from recloom.schemas import ContextField, EventCodes

from ..artifact.ids import IdKind
from ..artifact.manifest import Port
from ..artifact.raw_codes import are_values

INPUTS = {
    port.name: port
    for port in (
        Port(
            name="history",
            type="string",
            shape=["B", "L"],
            meaning="raw item ids, most recent last; '' = none",
        ),
        Port(name="blocked", type="string", shape=["B", "M"], meaning="raw item ids never to recommend"),
        Port(
            name="allowed",
            type="string",
            shape=["B", "A"],
            meaning="the only raw item ids to recommend; none in a row = all",
        ),
        Port(name="k", type="int64", shape=[1], meaning="length of the lists; 0 or less = empty lists"),
        Port(name="user", type="string", shape=["B"], meaning="raw user id"),
        Port(name="history_time", type="int64", shape=["B", "L"], meaning="seconds, beside history"),
        Port(name="request_time", type="int64", shape=["B"], meaning="seconds"),
    )
}
"""Inputs that are the same for any data. Ids that the artefact does not know count for nothing; L, M and A may be 0."""
OUTPUTS = [
    Port(name="item_id", type="string", shape=["B", "k"], meaning="raw item ids, best first; '' = none left"),
    Port(name="score", type="float32", shape=["B", "k"], meaning="higher is better; -inf = none left"),
]


class RawCodes(NamedTuple):
    """What the data number, and the model reads as codes: events, and fields of the request."""

    events: EventCodes | None = None
    context: Sequence[ContextField] = ()


NO_CODES = RawCodes()


def input_names(fields: Sequence[str]) -> list[str]:
    """Inputs of the artefact of a model that reads `fields`."""
    return ["history", "blocked", "allowed", "k", *(name for name in fields if name != "history")]


def ports(fields: Sequence[str], kind: IdKind, codes: RawCodes = NO_CODES) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs of the artefact of a model that reads `fields`.

    Raises RecloomError for what an artefact cannot give, such as fields of the request where the data have none.
    """
    made = {"history_event": _events, "context": _context}
    unknown = next((name for name in fields if name not in made and name not in INPUTS), None)
    if unknown is not None:
        can = sorted({*made, *INPUTS} - {"blocked", "allowed", "k"})
        raise RecloomError(f"export() asks for the input {unknown!r}; an artefact can give {', '.join(can)}")
    inputs = [
        made[name](codes) if name in made else _of_kind(INPUTS[name], kind) for name in input_names(fields)
    ]
    return inputs, [_of_kind(port, kind) for port in OUTPUTS]


def _events(codes: RawCodes) -> Port:
    if are_values(codes.events):
        return Port(
            name="history_event",
            type="float32",
            shape=["B", "L"],
            meaning="values beside history; NaN = none",
        )
    return Port(
        name="history_event", type="string", shape=["B", "L"], meaning="events beside history; '' = none"
    )


def _context(codes: RawCodes) -> Port:
    if not codes.context:
        raise RecloomError(
            "the model reads context, and its data have no fields of a request (`context` in dataset.json is empty). "
            "Train it on data that have some."
        )
    names = ", ".join(field.name for field in codes.context)
    return Port(
        name="context", type="string", shape=["B", len(codes.context)], meaning=f"{names}; '' = unknown"
    )


def _of_kind(port: Port, kind: IdKind) -> Port:
    if kind == "string" or port.type != "string":
        return port
    return port.model_copy(update={"type": "int64", "meaning": port.meaning.replace("''", "-1")})
