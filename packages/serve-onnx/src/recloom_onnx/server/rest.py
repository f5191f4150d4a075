"""The JSON interface: histories in, recommendations with titles out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import chain
from math import isfinite
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, FailFast, Field, StrictFloat, StrictInt, StrictStr, TypeAdapter
from recloom.runs import ListItem, ListRequest
from starlette.responses import Response

from ..artifact.ids import ALLOW_SENTINEL, PADDING, Array, IdKind, aligned, text_array
from ..artifact.raw_codes import blank_events, context_array, event_array, unknown_events
from .http_errors import HttpError
from .models import Models, Served
from .openapi import ERRORS, body_of
from .stages import Outcome, Stages
from .tensors import DEFAULT_K, Inputs, check_size
from .title_index import MAX_QUERY
from .validation import check_text, json_response, parse_body

Id = StrictStr | StrictInt
Item = tuple[str, float, str | None]
"""Raw id, score and title; a `ListItem` is one."""
MAX_REQUESTS = 1 << 16
"""Requests in one body, whatever the server's limits are."""


class FirstFault(FailFast):
    """Stops at the first element that is wrong, so that a body of a million faults is no list of a million messages."""

    __hash__ = object.__hash__


Ids = Annotated[list[Id], FirstFault()]
Event = StrictStr | StrictInt | StrictFloat
"""Text, or a number such as a rating."""
Seconds = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]


class RecommendRequest(BaseModel):
    """A user's history, and what may be recommended."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"history": ["296", "50"], "k": 5}]}
    )

    history: Ids = Field(description="Raw item ids, most recent last; unknown ones are passed over.")
    user: Id | None = Field(None, description="Raw user id, for models that know users.")
    k: StrictInt = Field(DEFAULT_K, ge=1, le=10_000, description="Length of the list.")
    exclude: Ids = Field([], description="Raw item ids that are not recommended.")
    allow: Ids | None = Field(None, description="The only raw item ids that may be recommended.")
    model: StrictStr | None = Field(None, description="By default the first.")
    version: StrictStr | None = Field(None, description="By default the highest.")
    history_times: Annotated[list[Seconds], FirstFault()] | None = Field(
        None, description="Seconds beside history, for models that read times."
    )
    request_time: Seconds | None = Field(None, description="Seconds, for models that read times.")
    history_events: Annotated[list[Event | None], FirstFault()] | None = Field(
        None,
        description="What happened with each item of history, for models that read events; null = unknown.",
    )
    context: dict[str, Event | None] | None = Field(
        None, description="Fields of the request by name, for models that read them."
    )


class RecommendedItem(BaseModel):
    """One item of a list."""

    id: str
    score: float
    title: str | None


class StageReport(BaseModel):
    """How a server stage ended: `ok`; or `failed`, `late` or `busy`, and then it has changed nothing."""

    name: str
    outcome: str
    report: dict[str, Any]


class RecommendResponse(BaseModel):
    """Recommendations, best first, and the items, user and events of the request that the model does not know."""

    model: str
    version: str
    items: list[RecommendedItem]
    unknown: list[str]
    unknown_user: str | None = Field(
        None,
        description="The user of the request, where the model does not know it or reads no users: the list is then "
        "that of somebody with this history, or of nobody in particular.",
    )
    unknown_events: list[str] = Field(
        [],
        description="Events of the request that the data of the model do not know, so that they count as none.",
    )
    stages: list[StageReport] = Field([], description="Only of a server with stages.")


class TitledItem(BaseModel):
    """An item and its title."""

    id: str
    title: str | None


class ServedModel(BaseModel):
    """A version of a model that is served."""

    name: str
    version: str
    model: str
    num_items: int
    reads: list[str]
    titles: bool
    seen: str
    metrics: dict[str, float]


_ONE: TypeAdapter[RecommendRequest] = TypeAdapter(RecommendRequest)
_MANY: TypeAdapter[list[RecommendRequest]] = TypeAdapter(
    Annotated[list[RecommendRequest], FirstFault(), Field(max_length=MAX_REQUESTS)]
)


def rest(models: Models, stages: Stages) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["Recommendations"])

    @router.post(
        "/recommend",
        summary="Recommend for one request, or for each of a list",
        openapi_extra=body_of(RecommendRequest, many=True),
        responses={
            **ERRORS,
            200: {
                "model": RecommendResponse | list[RecommendResponse],
                "description": "In the order of the requests.",
            },
        },
    )
    async def recommend(request: Request) -> Response:
        body = await request.body()
        if body.lstrip()[:1] == b"[":
            several = parse_body(_MANY, body)
            return json_response(await _recommend(models, stages, several, request.scope["state"]))
        one = parse_body(_ONE, body)
        return json_response((await _recommend(models, stages, [one], request.scope["state"]))[0])

    @router.get(
        "/titles",
        summary="Items by a part of their title, popular ones first",
        responses={**ERRORS, 200: {"model": list[TitledItem], "description": "Items."}},
    )
    async def titles(
        q: Annotated[str, Query(max_length=MAX_QUERY)] = "",
        model: str | None = None,
        version: str | None = None,
        limit: Annotated[int, Query(ge=1, le=50)] = 10,
    ) -> Response:
        index = models.find(model, version).title_index
        return json_response(
            [{"id": item, "title": index.titles.get(item)} for item in index.search(q, limit)]
        )

    @router.get("/models", summary="What is served", responses={200: {"model": list[ServedModel]}})
    async def served() -> Response:
        return json_response([_description(one) for one in models])

    return router


async def _recommend(
    models: Models, stages: Stages, requests: Sequence[RecommendRequest], state: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Responses in the order of the requests; those to one model go to it together.

    Args:
        models: what is served.
        stages: applied to every list.
        requests: of one body.
        state: of the HTTP request: its id and the deadline of stages.
    """
    groups: dict[Served, list[int]] = {}
    for place, request in enumerate(requests):
        groups.setdefault(models.find(request.model, request.version), []).append(place)
    ready = []
    for served, places in groups.items():
        group = [requests[place] for place in places]
        served.batcher.check_rows(len(group))
        ready.append((served, group, *_inputs(group, served, stages.depth)))
    found = await asyncio.gather(*(served.answer(inputs, k) for served, _, inputs, k in ready))
    lists: dict[int, tuple[Served, list[Item]]] = {}
    for places, (served, group, _, _), (ids, scores) in zip(groups.values(), ready, found, strict=True):
        lists |= zip(places, _lists(group, served, ids, scores, stages.depth), strict=True)
    ordered = [(request, *lists[place]) for place, request in enumerate(requests)]
    if not stages:
        return [_response(request, served, items) for request, served, items in ordered]
    return await asyncio.gather(*(_staged(stages, *one, state) for one in ordered))


async def _staged(
    stages: Stages, request: RecommendRequest, served: Served, items: list[Item], state: Mapping[str, Any]
) -> dict[str, Any]:
    """A response after all stages."""
    user = None if request.user is None else str(request.user)
    history = tuple(map(str, request.history))
    asked = ListRequest(history, user, request.k, served.name, served.title_index.titles)
    left, outcomes = await stages.apply(
        asked, [*map(ListItem._make, items)], state["deadline"], state["request_id"]
    )
    return _response(request, served, left) | {"stages": [*map(_stage_report, outcomes)]}


def _inputs(requests: Sequence[RecommendRequest], served: Served, depth: int) -> tuple[Inputs, int]:
    """The model's inputs, each made once, and the length of the longest list, at most the number of items.

    Args:
        requests: to one model.
        served: the model.
        depth: the least length of a list, where there are so many items.
    """
    manifest, rows = served.session.manifest, len(requests)
    k = min(max(depth, *(request.k for request in requests)), manifest.num_items)
    ids: dict[str, tuple[str, Sequence[Sequence[Id]]]] = {  # input -> field of the request, ragged rows
        "history": ("history", [request.history for request in requests]),
        "blocked": ("exclude", [request.exclude for request in requests]),
        "allowed": ("allow", [_allowed(request) for request in requests]),
    }
    cells = {field: rows * max(map(len, table)) for field, table in ids.values()}
    check_size(cells, rows, k)
    given = {
        name: _id_table(table, field, manifest.ids)
        for name, (field, table) in ids.items()
        if cells[field] or name == "history"
    }
    users = _id_array(
        ["" if request.user is None else request.user for request in requests], "user", manifest.ids
    )
    if "user" in manifest.fields:
        given["user"] = users
    if "history_time" in manifest.fields:
        given["history_time"] = _history_times(requests, served.name)
    if "request_time" in manifest.fields:
        given["request_time"] = _request_times(requests, served.name)
    if "history_event" in manifest.fields and any(request.history_events for request in requests):
        given["history_event"] = _history_events(requests, served)
    if "context" in manifest.fields and any(request.context for request in requests):
        given["context"] = context_array([request.context for request in requests], manifest.context)
        check_text(given["context"].ravel().tolist(), "context")
    return given, k


def _allowed(request: RecommendRequest) -> Sequence[Id]:
    """With the sentinel, so that an empty list allows nothing; no row at all where everything is allowed."""
    return () if request.allow is None else [*request.allow, ALLOW_SENTINEL]


def _id_table(rows: Sequence[Sequence[Id]], field: str, kind: IdKind) -> Array:
    """(B, L) ids of ragged rows, aligned right; HttpError for text that no id can be."""
    return aligned(rows, _id_array([*chain.from_iterable(rows)], field, kind), PADDING[kind])


def _id_array(values: Sequence[Id], field: str, kind: IdKind) -> Array:
    """(n,) ids; HttpError for text that no id can be."""
    text = [*map(str, values)]
    check_text(text, field)
    return text_array(text, kind)


def _history_times(requests: Sequence[RecommendRequest], name: str) -> Array:
    for request in requests:
        found = -1 if request.history_times is None else len(request.history_times)
        if found != len(request.history):
            raise HttpError(
                f"{name} reads times: expected history_times with {len(request.history)} numbers, one for each item "
                f"of history, found {'none' if found < 0 else found}"
            )
    rows = [request.history_times or [] for request in requests]
    return aligned(rows, np.array([*chain.from_iterable(rows)], dtype=np.int64), 0)


def _history_events(requests: Sequence[RecommendRequest], served: Served) -> Array:
    """(B, L) raw events; a request without any has none beside all of its items."""
    rows = []
    for request in requests:
        row = [None] * len(request.history) if request.history_events is None else request.history_events
        if len(row) != len(request.history):
            raise HttpError(
                f"history_events has {len(row)} elements; expected {len(request.history)}, one for each item of "
                "history, null where it is unknown"
            )
        rows.append(row)
    events = event_array([*chain.from_iterable(rows)], served.session.manifest.events)
    if events.dtype == object:
        check_text(events.tolist(), "history_events")
    return aligned(rows, events, blank_events((), served.session.manifest.events).item())


def _request_times(requests: Sequence[RecommendRequest], name: str) -> Array:
    if any(request.request_time is None for request in requests):
        raise HttpError(f"{name} reads times: expected request_time, the seconds of the request, found none")
    return np.array([request.request_time for request in requests], dtype=np.int64)


def _lists(
    requests: Sequence[RecommendRequest], served: Served, ids: Array, scores: Array, depth: int
) -> list[tuple[Served, list[Item]]]:
    """The list of each request: k items, or `depth` where that is more, without places for which nothing is left."""
    titles = served.title_index.titles
    text = ids if ids.dtype == object else ids.astype(str)
    rows = zip(requests, text.tolist(), scores.tolist(), strict=True)
    found = []
    for request, names, values in rows:
        k = max(request.k, depth)
        places = zip(names[:k], values[:k], strict=True)
        found.append((served, [(n, v, titles.get(n)) for n, v in places if isfinite(v)]))  # -inf: none left
    return found


def _response(request: RecommendRequest, served: Served, items: Sequence[Item]) -> dict[str, Any]:
    known, events = served.title_index.known, served.session.manifest.events
    sent = [*map(str, chain(request.history, request.exclude, request.allow or ()))]
    return {
        "model": served.name,
        "version": served.version,
        "items": [{"id": item, "score": score, "title": title} for item, score, title in items],
        "unknown": (
            [] if known.issuperset(sent) else [*dict.fromkeys(item for item in sent if item not in known)]
        ),
        "unknown_user": served.unknown_user(request.user),
        "unknown_events": [] if events is None else unknown_events(request.history_events or (), events),
    }


def _stage_report(outcome: Outcome) -> dict[str, Any]:
    return {"name": outcome.stage, "outcome": outcome.kind, "report": outcome.report}


def _description(served: Served) -> dict[str, Any]:
    manifest = served.session.manifest
    return {
        "name": served.name,
        "version": served.version,
        "model": manifest.model,
        "num_items": manifest.num_items,
        "reads": manifest.fields,
        "titles": bool(served.title_index.titles),
        "seen": manifest.seen,
        "metrics": {name: value for name, value in manifest.metrics.items() if np.isfinite(value)},
    }
