"""Test cases of a verification: requests of every shape, with odd ids, and of test users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from recloom.batch import Batch
from recloom.data import Catalog
from torch import Tensor
from torch.utils.data import Dataset

from ..artifact.ids import Array
from ..artifact.manifest import Manifest
from ..artifact.raw_codes import are_values

BATCHES = (1, 2, 7, 64)
ROWS = 64
WIDEST = 300
CODES = frozenset({"history_event", "context"})
"""Inputs that may be absent, which is compared too."""
UNKNOWN = "\N{REPLACEMENT CHARACTER} unknown"


class Case(NamedTuple):
    """Requests as an artefact takes them."""

    name: str
    given: dict[str, Array]
    k: int
    targets: Tensor | None = None


def shape_cases(manifest: Manifest, catalog: Catalog) -> Iterator[Case]:
    """Random requests of every batch size and length, and one that asks for more than there is."""
    random = np.random.default_rng(0)
    width = manifest.max_len or 50
    for rows in BATCHES:
        for length in (0, 1, 5, width, width + 20):
            given = random_requests(catalog, rows, length, random)
            yield Case(f"batch of {rows}, history of {length}", given, 10)
            if length == width and CODES & {*manifest.fields} & given.keys():
                yield Case(f"batch of {rows} without events and context", without_codes(given), 10)
    given = random_requests(catalog, 2, 5, random)
    yield Case("list longer than the catalogue", given, manifest.num_items + 3)


def random_requests(
    catalog: Catalog, rows: int, length: int, random: np.random.Generator
) -> dict[str, Array]:
    """Requests with repeated, unknown and empty ids anywhere; the last of several has no known item."""
    items = np.array(["", UNKNOWN, *catalog.items["item_id"]], dtype=object)
    users = np.array([UNKNOWN, *catalog.users["user_id"]], dtype=object)
    index = random.integers(2, len(items), (rows, length))
    index = np.where(random.random((rows, length)) < 0.2, random.integers(0, 2, (rows, length)), index)
    if rows > 1:
        index[-1] %= 2
    user = random.integers(0, len(users), rows)
    user[-1] = 0
    ages = np.sort(random.integers(0, 10**8, (rows, length)), axis=1)
    return random_codes(catalog, rows, length, random) | {
        "history": items[index],
        "blocked": items[random.integers(0, len(items), (rows, int(random.integers(0, 4))))],
        "allowed": items[_some_allowed(rows, len(items), random)],
        "user": users[user],
        "history_time": 1_500_000_000 + ages,
        "request_time": np.full(rows, 1_600_000_001),
    }


def random_codes(catalog: Catalog, rows: int, length: int, random: np.random.Generator) -> dict[str, Array]:
    """Raw events and fields of the request, a few of them unknown or none; what the data do not have is not given."""
    given: dict[str, Array] = {}
    events = catalog.events
    if events is not None and are_values(events):  # events, the cuts, between them, beyond, none
        cuts = np.array([*(events.listed or ()), *events.cuts], np.float32)
        around = np.concatenate([cuts, cuts - 1e-3, cuts + 1e-3, [-np.inf, np.inf, np.nan]]).astype(
            np.float32
        )
        given["history_event"] = around[random.integers(0, len(around), (rows, length))]
    elif events is not None:
        words = np.array(["", UNKNOWN, *events.names], dtype=object)
        given["history_event"] = words[random.integers(0, len(words), (rows, length))]
    if catalog.context:
        columns = [np.array(["", UNKNOWN, *field.values], dtype=object) for field in catalog.context]
        picked = [words[random.integers(0, len(words), rows)] for words in columns]
        given["context"] = np.stack(picked, axis=1)
    return given


def raw_codes(batch: Batch, catalog: Catalog) -> dict[str, Array]:
    """Raw events and fields of the request that have the codes of a batch; what the data do not have is not given."""
    given: dict[str, Array] = {}
    events = catalog.events
    if events is not None and are_values(events):  # the event, or a value on the cut below the interval
        values = np.array([np.nan, *(events.listed or [events.cuts[0] - 1, *events.cuts])], np.float32)
        given["history_event"] = values[batch.history_event.numpy()]
    elif events is not None:
        given["history_event"] = np.array(["", *events.names], dtype=object)[batch.history_event.numpy()]
    if catalog.context:
        columns = [np.array(["", *field.values], dtype=object) for field in catalog.context]
        codes = batch.context.numpy()
        given["context"] = np.stack([words[codes[:, n]] for n, words in enumerate(columns)], axis=1)
    return given


def without_codes(given: dict[str, Array]) -> dict[str, Array]:
    """The same requests without events and fields of the request."""
    return {name: array for name, array in given.items() if name not in CODES}


def _codes(given: dict[str, Array], catalog: Catalog, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(B, L) codes of events and (B, F) of fields of the request, as Run.recommend reads them."""
    events = torch.zeros(shape, dtype=torch.long)
    if "history_event" in given:
        found = catalog.event_codes(given["history_event"].ravel().tolist(), only_listed=True)
        events = torch.from_numpy(np.array(found)).view(shape)
    context = torch.zeros(shape[0], len(catalog.context), dtype=torch.long)
    if "context" in given:
        for place, field in enumerate(catalog.context):
            numbers = {value: number for number, value in enumerate(field.values, 1)}
            context[:, place] = torch.tensor([numbers.get(one, 0) for one in given["context"][:, place]])
    return events, context


def _some_allowed(rows: int, size: int, random: np.random.Generator) -> Array:
    """(rows, A) places in a list of ids whose first two are none and unknown; about half of the rows have none."""
    places = random.integers(0, size, (rows, int(random.integers(0, min(size, WIDEST)))))
    places[random.random(rows) < 0.5] = 0
    if rows > 1:
        places[0] = 1  # nothing that is known
    return places


def sample(requests: Dataset[Batch], most: int | None = None) -> Iterator[Batch]:
    """Batches of all requests, or of so many, spread evenly, as they are ordered by the length of histories."""
    size = len(requests)  # type: ignore[arg-type]
    rows = torch.linspace(0, size - 1, min(size, most or size), dtype=torch.float64).long()
    for start in range(0, len(rows), ROWS):
        yield requests[rows[start : start + ROWS]]


def user_cases(requests: Iterable[Batch], catalog: Catalog) -> Iterator[Case]:
    """Test requests with raw ids."""
    items = np.array(["", *catalog.items["item_id"]], dtype=object)
    users = np.array(["", *catalog.users["user_id"]], dtype=object)
    for batch in requests:
        ranked = not batch.labels.is_floating_point() and batch.labels.shape[0] == len(batch)
        given = {
            "history": items[batch.history.numpy()],
            "blocked": np.empty((len(batch), 0), dtype=object),
            "allowed": np.empty((len(batch), 0), dtype=object),
            "user": users[batch.user.numpy()],
            "history_time": batch.history_time.numpy(),
            "request_time": batch.request_time.numpy(),
        } | raw_codes(batch, catalog)
        yield Case("test users", given, 10, batch.labels if ranked else None)


def indexed(given: dict[str, Array], catalog: Catalog) -> tuple[Batch, Tensor, Tensor]:
    """The same requests as the recommender reads them: known items only, aligned right; blocked; allowed, by item."""
    index = indices(given["history"], catalog.item_index)
    events, context = _codes(given, catalog, given["history"].shape)
    if not index.shape[1]:
        index = index.new_zeros(len(index), 1)
        times = events = index
    else:
        times = torch.from_numpy(given["history_time"])
    known, order = (index > 0).int().sort(dim=1, stable=True)
    batch = Batch.of(
        index.gather(1, order),
        user=indices(given["user"], catalog.user_index),
        history_time=times.gather(1, order) * known,
        request_time=torch.from_numpy(given["request_time"]),
        history_event=events.gather(1, order) * known,
        context=context,
    )
    free = torch.from_numpy((given["allowed"] == "").all(1))  # a row that names none is not limited
    allowed = torch.zeros(len(index), catalog.num_items + 1, dtype=torch.bool)
    allowed.scatter_(1, indices(given["allowed"], catalog.item_index), True)
    return batch, indices(given["blocked"], catalog.item_index), allowed[:, 1:] | free[:, None]


def cleaned(given: dict[str, Array], catalog: Catalog) -> dict[str, Array]:
    """The same requests without the unknown ids of histories and blocked items; shapes stay."""
    known = indices(given["history"], catalog.item_index).numpy() > 0
    order = np.argsort(known, axis=1, kind="stable")
    blocked = indices(given["blocked"], catalog.item_index).numpy() > 0
    return {
        **given,
        "history": np.take_along_axis(np.where(known, given["history"], ""), order, 1),
        **{
            name: np.take_along_axis(given[name], order, 1)
            for name in ("history_time", "history_event")
            if name in given
        },
        "blocked": np.where(blocked, given["blocked"], ""),
    }


def indices(raw: Array, index: Any) -> Tensor:
    """Raw ids of any shape, text or integers, to indices of that shape."""
    text = raw if raw.dtype == object else raw.astype(str)
    return torch.from_numpy(np.array(index(text.ravel().tolist()))).view(raw.shape)
