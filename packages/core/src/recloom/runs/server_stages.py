"""The contract of a server stage: it changes the list that a model has made, before the server answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class ListRequest(NamedTuple):
    """The request that a list answers."""

    history: tuple[str, ...]
    """Raw item ids, most recent last."""
    user: str | None
    """Raw user id, where the request names one."""
    k: int
    """Length of the list that is answered."""
    model: str
    """Name of the model that made the list."""
    titles: Mapping[str, str]
    """Raw item id to title, of all items that have one."""


class ListItem(NamedTuple):
    """One place of a list."""

    id: str
    score: float
    title: str | None


StageRoute = Callable[[Any, float], Any]
"""From the JSON of a request and its deadline to the JSON of the answer; its docstring describes it."""


class ServerStage(Protocol):
    """Reranks lists, and may answer requests of its own; `register_server_stages` returns such classes.

    One object, made without arguments when a server starts that names it, is called from several threads at a time.
    """

    name: str
    """By which `recloom serve MODEL --stages NAME` asks for it."""
    depth: int
    """Items that it wants to choose from, where the model has so many; at least k are given in any case."""

    def rerank(
        self, request: ListRequest, items: Sequence[ListItem], deadline: float
    ) -> tuple[Sequence[ListItem], Mapping[str, Any]]:
        """The items in another order or fewer of them, and a report for the answer.

        Args:
            request: what the list answers.
            items: best first; those that may not be recommended are not among them.
            deadline: of `time.monotonic()`; what comes later is dropped, and the first k of `items` are answered.

        Returns:
            Items of `items`, each once, of which the first k are answered, with any finite scores; and a report that
            JSON can hold.
        """

    def routes(self) -> Mapping[str, StageRoute]:
        """Requests of its own: `POST /stages/NAME/ROUTE` by the name of the route. Empty where there are none."""
