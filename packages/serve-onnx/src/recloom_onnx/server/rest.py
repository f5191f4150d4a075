"""What people and their programs ask: histories in, recommendations with titles out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain
from math import isfinite
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, FailFast, Field, StrictInt, StrictStr, TypeAdapter
from starlette.responses import Response

from ..artifact.ids import NOTHING, Array, aligned, id_array, padded
from .http_errors import Refused
from .models import Models, Served
from .openapi import ERRORS, body_of
from .tensors import Given, check_places, check_size
from .title_index import LONGEST
from .validation import answer, check_text, read

Id = StrictStr | StrictInt


MOST = 1 << 16
"""Requests in one body, whatever the server's limits are."""


class FirstFault(FailFast):
    """Stops at the first element that is wrong, so that a body of a million faults is no list of a million messages."""

    __hash__ = object.__hash__


Ids = Annotated[list[Id], FirstFault()]
Seconds = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]


class Ask(BaseModel):
    """Whom to recommend to, and what may be recommended."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"history": ["296", "50"], "k": 5}]}
    )

    history: Ids = Field(description="Raw item ids, most recent last; unknown ones are passed over.")
    user: Id | None = Field(None, description="Raw user id, for models that know users.")
    k: StrictInt = Field(10, ge=1, le=10_000, description="Length of the list.")
    exclude: Ids = Field([], description="Raw item ids that are not recommended.")
    allow: Ids | None = Field(None, description="The only raw item ids that may be recommended.")
    model: StrictStr | None = Field(None, description="By default the first.")
    version: StrictStr | None = Field(None, description="By default the highest.")
    history_times: Annotated[list[Seconds], FirstFault()] | None = Field(
        None, description="Seconds beside history, for models that read times."
    )
    request_time: Seconds | None = Field(None, description="Seconds, for models that read times.")


class Place(BaseModel):
    """One place of a list."""

    id: str
    score: float
    title: str | None


class Answer(BaseModel):
    """Recommendations, best first, and the ids of the request that the model does not know."""

    model: str
    version: str
    items: list[Place]
    unknown: list[str]


class Titled(BaseModel):
    """An item."""

    id: str
    title: str | None


class Loaded(BaseModel):
    """A version of a model that is served."""

    name: str
    version: str
    model: str
    num_items: int
    reads: list[str]
    titles: bool
    seen: str
    metrics: dict[str, float]


_ASK: TypeAdapter[Ask] = TypeAdapter(Ask)
_ASKS: TypeAdapter[list[Ask]] = TypeAdapter(Annotated[list[Ask], FirstFault(), Field(max_length=MOST)])


def people(models: Models) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["Recommendations"])

    @router.post(
        "/recommend",
        summary="Recommend to one, or to each of a list",
        openapi_extra=body_of(Ask, many=True),
        responses={
            **ERRORS,
            200: {"model": Answer | list[Answer], "description": "In the order of the list."},
        },
    )
    async def recommend(request: Request) -> Response:
        body = await request.body()
        if body.lstrip()[:1] == b"[":
            several = read(_ASKS, body)
            return answer(await _recommend(models, several))
        return answer((await _recommend(models, [read(_ASK, body)]))[0])

    @router.get(
        "/titles",
        summary="Items by a part of their title, popular ones first",
        responses={**ERRORS, 200: {"model": list[Titled], "description": "Items."}},
    )
    async def titles(
        q: Annotated[str, Query(max_length=LONGEST)] = "",
        model: str | None = None,
        version: str | None = None,
        limit: Annotated[int, Query(ge=1, le=50)] = 10,
    ) -> Response:
        shelf = models.find(model, version).shelf
        return answer([{"id": item, "title": shelf.titles.get(item)} for item in shelf.search(q, limit)])

    @router.get("/models", summary="What is served", responses={200: {"model": list[Loaded]}})
    async def served() -> Response:
        return answer([_loaded(one) for one in models])

    return router


async def _recommend(models: Models, asks: Sequence[Ask]) -> list[dict[str, Any]]:
    """Answers in the order of the asks; those of one model go to it together."""
    groups: dict[Served, list[int]] = {}
    for place, ask in enumerate(asks):
        groups.setdefault(models.find(ask.model, ask.version), []).append(place)
    requests = [(served, [asks[place] for place in places]) for served, places in groups.items()]
    for served, some in requests:
        served.batcher.check_rows(len(some))
        for name in ("history", "exclude", "allow"):  # before there is a table of them
            check_places(name, len(some) * max(len(getattr(ask, name) or ()) for ask in some))
    ready = [(served, some, inputs(some, served), most_of(some, served)) for served, some in requests]
    for _, _, given, k in ready:
        check_size(given, k)
    found = await asyncio.gather(*(served.answer(given, k) for served, _, given, k in ready))
    answers: dict[int, dict[str, Any]] = {}
    for (served, places), (_, some, _, _), (ids, scores) in zip(groups.items(), ready, found, strict=True):
        answers |= zip(places, _answers(some, served, ids, scores), strict=True)
    return [answers[place] for place in range(len(asks))]


def most_of(asks: Sequence[Ask], served: Served) -> int:
    """The longest list of several, which has no more places than there are items."""
    return min(max(ask.k for ask in asks), served.session.manifest.num_items)


def inputs(asks: Sequence[Ask], served: Served) -> Given:
    """What goes into a model: tables of (B, L) and rows of (B,)."""
    manifest, kind = served.session.manifest, served.session.manifest.ids
    users = ["" if ask.user is None else ask.user for ask in asks]
    for where, rows in (
        ("history", [ask.history for ask in asks]),
        ("exclude", [ask.exclude for ask in asks]),
        ("allow", [ask.allow or () for ask in asks]),
        ("user", [users]),
    ):
        check_text([*chain.from_iterable(rows)], where)
    given = {
        "history": padded([ask.history for ask in asks], kind),
        "blocked": padded([ask.exclude for ask in asks], kind),
        "allowed": padded([() if ask.allow is None else [*ask.allow, NOTHING] for ask in asks], kind),
        "user": id_array(users, kind),
    }
    if "history_time" in manifest.fields:
        given["history_time"] = _history_times(asks, served.name)
    if "request_time" in manifest.fields:
        given["request_time"] = _request_times(asks, served.name)
    return given


def _history_times(asks: Sequence[Ask], name: str) -> Array:
    for ask in asks:
        found = -1 if ask.history_times is None else len(ask.history_times)
        if found != len(ask.history):
            raise Refused(
                f"{name} reads times: expected history_times with {len(ask.history)} numbers, one for each item of "
                f"history, found {'none' if found < 0 else found}"
            )
    rows = [ask.history_times or [] for ask in asks]
    return aligned(rows, np.array([*chain.from_iterable(rows)], dtype=np.int64), 0)


def _request_times(asks: Sequence[Ask], name: str) -> Array:
    if any(ask.request_time is None for ask in asks):
        raise Refused(f"{name} reads times: expected request_time, the seconds of the request, found none")
    return np.array([ask.request_time for ask in asks], dtype=np.int64)


def _answers(asks: Sequence[Ask], served: Served, ids: Array, scores: Array) -> list[dict[str, Any]]:
    rows = zip(asks, ids.astype(str).tolist(), scores.tolist(), strict=True)
    return [_answer(ask, served, row, values) for ask, row, values in rows]


def _answer(ask: Ask, served: Served, ids: list[str], scores: list[float]) -> dict[str, Any]:
    shelf = served.shelf
    given = map(str, chain(ask.history, ask.exclude, ask.allow or ()))
    places = zip(ids[: ask.k], scores[: ask.k], strict=True)
    return {
        "model": served.name,
        "version": served.version,
        "items": [
            {"id": item, "score": score, "title": shelf.titles.get(item)}
            for item, score in places
            if isfinite(score)  # -inf: nothing is left
        ],
        "unknown": [*dict.fromkeys(item for item in given if item not in shelf.known)],
    }


def _loaded(served: Served) -> dict[str, Any]:
    manifest = served.session.manifest
    return {
        "name": served.name,
        "version": served.version,
        "model": manifest.model,
        "num_items": manifest.num_items,
        "reads": manifest.fields,
        "titles": bool(served.shelf.titles),
        "seen": manifest.seen,
        "metrics": {name: value for name, value in manifest.metrics.items() if np.isfinite(value)},
    }
