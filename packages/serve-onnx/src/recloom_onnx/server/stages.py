"""Server stages: they change a model's list before the server answers, and a stage that fails changes nothing.

A stage runs in a daemon thread of its own, because it may block and cannot be stopped. Where it raises, returns what
is no list of the given items, or is later than its deadline, the list from before it is answered.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from recloom.errors import RecloomError
from recloom.plugins import collect
from recloom.runs import ListItem, ListRequest, ServerStage, StageRoute
from starlette.responses import Response

from .http_errors import OVERLOADED, RETRY, HttpError, brief
from .models import NAME
from .observation import internal_error_body, log_event
from .openapi import ERRORS
from .validation import json_response

MAX_REPORT = 16_384
"""Characters of a report in JSON."""
Watch = Callable[[str, str, float], None]


class Outcome(NamedTuple):
    """How one call of a stage ended."""

    stage: str
    kind: str
    """`ok`; `failed`, `late` or `busy`, where the list was not changed."""
    report: Mapping[str, Any]


class _Late(Exception):
    """A call did not end before its deadline."""


class _Busy(Exception):
    """Too many calls are running."""


class Stages:
    """The stages of a server, in order.

    Args:
        stages: each gets what the one before it returned.
        most: calls at a time, late ones that still run included.
        watch: called with stage, outcome and seconds of every call.
    """

    def __init__(
        self,
        stages: Sequence[ServerStage] = (),
        most: int = 256,
        watch: Watch = lambda stage, outcome, seconds: None,
    ) -> None:
        self._stages, self._most, self._watch = stages, most, watch
        self._running = 0

    def __bool__(self) -> bool:
        return bool(self._stages)

    @property
    def depth(self) -> int:
        """Items that the deepest stage wants to choose from."""
        return max((stage.depth for stage in self._stages), default=0)

    @property
    def names(self) -> list[str]:
        """Names of the stages, in order."""
        return [stage.name for stage in self._stages]

    async def apply(
        self, request: ListRequest, items: Sequence[ListItem], deadline: float, identity: str
    ) -> tuple[Sequence[ListItem], list[Outcome]]:
        """The first k items after all stages, and how each stage ended.

        Args:
            request: what the list answers.
            items: of the model, best first.
            deadline: of `time.monotonic()`, for all stages together.
            identity: of the HTTP request, for the log.
        """
        outcomes = []
        for stage in self._stages:
            begun = time.monotonic()
            report: Mapping[str, Any] = {}
            try:
                returned = await self._call(partial(stage.rerank, request, items, deadline), deadline)
                items, report = checked(returned, items)
                kind = "ok"
            except Exception as error:  # a stage may fail in any way
                kind = self._failed(stage.name, "rerank", error, identity)
            self._watch(stage.name, kind, time.monotonic() - begun)
            outcomes.append(Outcome(stage.name, kind, report))
        return items[: request.k], outcomes

    def routes(self) -> APIRouter:
        """`POST /stages/NAME/ROUTE` for every route of every stage."""
        router = APIRouter(prefix="/stages", tags=["Stages"], responses=ERRORS)
        for stage in self._stages:
            for route, answer in stage.routes().items():
                if not NAME.fullmatch(route):
                    raise RecloomError(
                        f"stage {stage.name} has a route {brief(route)}; a name has letters, digits, '.', '_' and '-'"
                    )
                summary = (answer.__doc__ or route).strip().splitlines()[0]
                handler = self._handler(stage.name, route, answer)
                path = f"/{stage.name}/{route}"
                router.add_api_route(
                    path, handler, methods=["POST"], summary=summary, name=f"{stage.name} {route}"
                )
        return router

    def _handler(self, stage: str, route: str, answer: StageRoute) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            state = request.scope["state"]
            try:
                body = json.loads(await request.body())
            except ValueError as error:
                raise HttpError(f"the body is not JSON in UTF-8: {error}") from error
            begun, kind = time.monotonic(), "ok"
            try:
                found = await self._call(partial(answer, body, state["deadline"]), state["deadline"])
                return json_response(found)
            except (_Late, _Busy) as error:
                kind = self._failed(stage, route, error, state["request_id"])
                raise HttpError(f"stage {stage} is {kind}; try again later", OVERLOADED, RETRY) from None
            except RecloomError:  # the request makes no sense to it
                kind = "refused"
                raise
            except Exception as error:  # a stage may fail in any way
                kind = self._failed(stage, route, error, state["request_id"])
                body_ = internal_error_body(state["request_id"])
                return Response(body_, 500, media_type="application/json")
            finally:
                self._watch(stage, kind, time.monotonic() - begun)

        return handle

    def _failed(self, stage: str, what: str, error: Exception, identity: str) -> str:
        """Log a call that did not succeed; the kind of its outcome."""
        kind = {_Late: "late", _Busy: "busy"}.get(type(error), "failed")
        line = {"id": identity, "stage": stage, "call": what, "outcome": kind}
        if kind == "failed":
            line |= {"error": type(error).__name__, "trace": "".join(traceback.format_exception(error))}
        log_event("stage", line, logging.WARNING)
        return kind

    async def _call(self, work: Callable[[], Any], deadline: float) -> Any:
        """What `work` returns, run in a thread; _Late after the deadline, _Busy where too many run."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise _Late
        if self._running >= self._most:
            raise _Busy
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()

        def settle(error: BaseException | None, value: Any) -> None:
            self._running -= 1
            if ended.done():  # late, or the client has disconnected
                return
            if error is None:
                ended.set_result(value)
            else:
                ended.set_exception(error)

        def run() -> None:
            error, value = None, None
            try:
                value = work()
            except Exception as raised:
                error = raised
            except BaseException as raised:  # such as SystemExit, which would end this thread alone
                error = RuntimeError(f"the stage raised {type(raised).__name__}")
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, error, value)

        self._running += 1
        threading.Thread(target=run, name="recloom-stage", daemon=True).start()
        try:
            return await asyncio.wait_for(ended, left)
        except TimeoutError:
            if ended.done() and not ended.cancelled() and isinstance(ended.exception(), TimeoutError):
                raise RuntimeError("the stage raised TimeoutError") from None
            raise _Late from None


def checked(returned: Any, given: Sequence[ListItem]) -> tuple[list[ListItem], Mapping[str, Any]]:
    """What a stage returned, checked: items that it was given, each once, and a report.

    Raises RecloomError otherwise.
    """
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping)):
        raise RecloomError(f"expected a stage to return (items, report), found {brief(returned)}")
    items, report = returned
    titles = {item.id: item.title for item in given}
    found: dict[str, ListItem] = {}
    for item in items:
        name, score = item.id, float(item.score)
        if name not in titles or name in found or not isfinite(score):
            raise RecloomError(
                "expected the items that the stage was given, each once and with a finite score, found "
                f"{brief(name)} with {score:g}"
            )
        found[name] = ListItem(name, score, titles[name])
    if len(json.dumps(report, allow_nan=False)) > MAX_REPORT:
        raise RecloomError(f"expected a report of {MAX_REPORT:,} characters at most")
    return list(found.values()), report


def find_stages(names: Sequence[str]) -> list[ServerStage]:
    """The named stages, made from the classes that plugins register.

    Raises RecloomError for a name that no plugin registers or that is given twice, and where one cannot be made.
    """
    if not names:
        return []
    known = collect("register_server_stages")
    for name in names:
        if name not in known:
            found = ", ".join(known) or "none"
            raise RecloomError(
                f"--stages names {name!r}, which no installed plugin registers; there are: {found}"
            )
        if names.count(name) > 1:
            raise RecloomError(f"--stages names {name!r} twice; name each stage once")
        if not NAME.fullmatch(name):
            raise RecloomError(f"stage {name!r}: a name has letters, digits, '.', '_' and '-'")
    return [_made(name, known[name]) for name in names]


def _made(name: str, kind: Callable[[], ServerStage]) -> ServerStage:
    try:
        stage = kind()
    except RecloomError:
        raise
    except Exception as error:  # it may fail in any way
        raise RecloomError(f"stage {name!r} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(stage.depth, int) or stage.depth < 0:
        raise RecloomError(f"stage {name!r} has depth {stage.depth!r}; expected a whole number from 0")
    return stage
