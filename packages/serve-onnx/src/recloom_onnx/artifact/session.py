"""A loaded artefact that answers requests. Needs onnxruntime, numpy and the manifest; not torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from recloom.errors import RecloomError
from recloom.io import version

from .ids import ALLOW_SENTINEL, DTYPES, PADDING, Array, aligned, id_array, padded
from .manifest import Manifest, items_path, read_manifest, users_path
from .raw_codes import are_values, blank_events, context_array, event_array

Provider = Literal["cpu", "cuda"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
WHEELS = {"cpu": "onnxruntime", "cuda": "onnxruntime-gpu"}
EXTRAS = {"cpu": "cpu", "cuda": "gpu"}
NAMES = ["item_id", "score"]
"""Outputs of the graph."""
TEXT = ("history", "blocked", "allowed", "user")
"""Inputs of raw ids."""
OPTIONAL = frozenset({"blocked", "allowed", "user", "history_event", "context"})
"""Inputs that may be left out: nothing is blocked, every item is allowed, user, events and context are unknown."""
BESIDE_HISTORY = ("history_time", "history_event")
"""Inputs of the shape of `history`."""


class Recommended(NamedTuple):
    """One place of a list."""

    item_id: str
    """Text, also where the artefact's ids are integers."""
    score: float


class Session:
    """A loaded artefact.

    Args:
        path: `model.onnx`, with its manifest beside it.
        provider: where it runs; asking for `cuda` where that is not possible is an error.
        threads: of one request; None: as many as onnxruntime likes.
        allow_unverified: load an artefact that was not shown to equal its recommender; for `verify` alone.

    Raises RecloomError where a file was changed, the artefact is not verified, or a library is missing.
    """

    def __init__(
        self,
        path: str | Path,
        provider: Provider = "cpu",
        threads: int | None = None,
        allow_unverified: bool = False,
    ) -> None:
        self.path = Path(path)
        self.manifest: Manifest = read_manifest(self.path)
        self.manifest.check_files(self.path)
        if not allow_unverified:
            self.manifest.check_parity(self.path)
        self.inputs = [port.name for port in self.manifest.inputs]
        self._session = _load(self.path, provider, threads)
        if self.manifest.index is not None:
            from .indexed_session import IndexedSession

            self._session = IndexedSession(self._session, self.path, self.manifest, threads)

    @cached_property
    def titles(self) -> dict[str, str]:
        """Raw item id to title; empty where the catalogue has none."""
        path = items_path(self.path)
        if path.name not in self.manifest.files:
            return {}
        import polars as pl

        frame = pl.read_parquet(path, glob=False)
        if "title" not in frame.columns:
            return {}
        frame = frame.drop_nulls("title")
        return dict(zip(frame["item_id"].to_list(), frame["title"].to_list(), strict=True))

    @cached_property
    def item_ids(self) -> list[str]:
        """Raw ids of all items, popular ones first: the list for an unknown user."""
        empty: Array = np.empty((1, 0), DTYPES[self.manifest.ids])
        times = {"history_time": np.empty((1, 0), np.int64), "request_time": np.zeros(1, np.int64)}
        ids, _ = self.run({"history": empty, **times}, self.manifest.num_items)
        return [*map(str, ids[0].tolist())]

    @cached_property
    def user_ids(self) -> frozenset[str] | None:
        """Raw ids of the users that the artefact knows; none where it reads no users.

        None where that cannot be told: an artefact of before has no `*.users.parquet`.
        """
        if "user" not in self.inputs:
            return frozenset()
        path = users_path(self.path)
        if path.name not in self.manifest.files:
            return None
        import polars as pl

        return frozenset(pl.read_parquet(path, columns=["user_id"], glob=False)["user_id"].to_list())

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        exclude: Sequence[Sequence[str]] | None = None,
        allow: Sequence[Sequence[str] | None] | None = None,
        users: Sequence[str] | None = None,
        history_times: Sequence[Sequence[int]] | None = None,
        request_times: Sequence[int] | None = None,
        history_events: Sequence[Sequence[Any]] | None = None,
        contexts: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> list[list[Recommended]]:
        """Return for each request the best k items that are left, best first.

        Args:
            histories: raw item ids of each request, most recent last; unknown ids are passed over.
            k: length of the lists; they are shorter where the catalogue has no more items to give.
            exclude: raw item ids never to recommend, for each request.
            allow: the only raw item ids to recommend, for each request; None for one = the whole catalogue, an empty
                list = none.
            users: raw user ids, where the model knows users; by default unknown.
            history_times: seconds beside `histories`, where the model reads times.
            request_times: seconds, where the model reads times.
            history_events: raw events beside `histories`, text or numbers as the data have them, None = unknown, where
                the model reads events; by default all unknown.
            contexts: raw fields of each request by name, such as {"device": "phone"}, where the model reads them; a
                field that is absent is unknown.
        """
        rows, kind = len(histories), self.manifest.ids
        if not rows:
            return []
        given: dict[str, Array] = {"history": padded(histories, kind)}
        if exclude is not None:
            given["blocked"] = padded(exclude, kind)
        if allow is not None:
            given["allowed"] = padded([() if row is None else [*row, ALLOW_SENTINEL] for row in allow], kind)
        if users is not None:
            given["user"] = id_array(users, kind)
        if history_times is not None:
            seconds = np.array([*chain.from_iterable(history_times)], dtype=np.int64)
            given["history_time"] = aligned(history_times, seconds, 0)
        if request_times is not None:
            given["request_time"] = np.array(request_times, dtype=np.int64)
        if history_events is not None and "history_event" in self.inputs:
            events = event_array([*chain.from_iterable(history_events)], self.manifest.events)
            given["history_event"] = aligned(
                history_events, events, blank_events((), self.manifest.events).item()
            )
        if contexts is not None and "context" in self.inputs:
            given["context"] = context_array(contexts, self.manifest.context)
        ids, scores = self.run(given, min(k, self.manifest.num_items))
        if kind == "integer":
            ids = ids.astype(str)
        left = (scores > -np.inf).sum(1)  # what is left comes first
        return [
            [*map(Recommended, row[:n], values[:n])]
            for row, values, n in zip(ids.tolist(), scores.tolist(), left.tolist(), strict=True)
        ]

    def run(self, given: dict[str, Array], k: int) -> tuple[Array, Array]:
        """(B, k) raw ids and (B, k) scores from padded arrays, padding and -inf where nothing is left.

        Args:
            given: `history` (B, L), and what else the model reads; `blocked` (B, M) and `allowed` (B, A) may be
                absent. Raw ids are object arrays of str; int64 where `manifest.ids` is "integer", or their text.
            k: length of the lists.
        """
        return self.run_prepared(self.prepare(given), k)

    def prepare(self, given: dict[str, Array]) -> dict[str, Array]:
        """The inputs of the graph but `k`, in its order: checked, and with defaults for what may be left out.

        Args:
            given: as for `run`.

        Raises RecloomError where an input is missing, or its rows, shape or type are not what the model reads.
        """
        history = given["history"]
        rows, complete = len(history), {}
        for name in self.inputs:
            if name == "k":
                continue
            if name in given:
                array = given[name]
            elif name in OPTIONAL:
                array = self._default(name, history)
            else:
                raise RecloomError(f"{self.manifest.model} reads {name}; give it with every request")
            if len(array) != rows:
                raise RecloomError(f"{name} has {len(array)} rows and history has {rows}; expected the same")
            if name in BESIDE_HISTORY and array.shape != history.shape:
                what = "time" if name == "history_time" else "event"
                raise RecloomError(
                    f"{name} has shape {list(array.shape)}, history {list(history.shape)}; expected one {what} for "
                    "each item"
                )
            complete[name] = self._typed(name, array) if name in TEXT else self._coded(name, array)
        return complete

    def _default(self, name: str, history: Array) -> Array:
        """The default of an optional input that is left out."""
        rows, kind = len(history), self.manifest.ids
        if name == "history_event":
            return blank_events(history.shape, self.manifest.events)
        if name == "context":
            return np.full((rows, len(self.manifest.context)), "", object)
        return np.full((rows,) if name == "user" else (rows, 0), PADDING[kind], DTYPES[kind])

    def _coded(self, name: str, array: Array) -> Array:
        """Raw events and fields of the request in their types; any other input as it is."""
        if name == "history_event" and are_values(self.manifest.events):
            if array.dtype.kind not in "fiu":
                raise RecloomError(
                    f"history_event has the type {array.dtype}; the events of this artefact are numbers"
                )
            return array.astype(np.float32, copy=False)
        if name in ("history_event", "context") and array.dtype != object:
            raise RecloomError(f"{name} has the type {array.dtype}; expected text in an object array")
        if name == "context" and array.shape != (len(array), len(self.manifest.context)):
            names = ", ".join(field.name for field in self.manifest.context)
            raise RecloomError(
                f"context has shape {list(array.shape)}; expected a column for each of {names}"
            )
        return array

    def run_prepared(self, inputs: dict[str, Array], k: int) -> tuple[Array, Array]:
        """As `run`, of what `prepare` has returned; rows of several such inputs may have been joined.

        Args:
            inputs: of the graph, but `k`.
            k: length of the lists.
        """
        if k < 1 or k != int(k):
            raise RecloomError(f"k is the length of the lists, a whole number of 1 or more; found {k}")
        rows = len(inputs["history"])
        step = min(self.manifest.rows or rows, rows) or 1
        if step >= rows:
            return self._run_at_once(inputs, k)
        parts = [
            self._run_at_once({name: array[at : at + step] for name, array in inputs.items()}, k)
            for at in range(0, rows, step)
        ]
        ids, scores = zip(*parts, strict=True)
        return np.concatenate(ids), np.concatenate(scores)

    def _run_at_once(self, inputs: dict[str, Array], k: int) -> tuple[Array, Array]:
        try:
            ids, scores = self._session.run(NAMES, {**inputs, "k": np.array([k], dtype=np.int64)})
        except UnicodeEncodeError as error:
            raise RecloomError(f"an id of the request is not valid text: {error.object[:40]!r}") from error
        return ids, scores

    def _typed(self, name: str, array: Array) -> Array:
        kind = self.manifest.ids
        if kind == "integer" and array.dtype == object:
            return id_array(array.ravel().tolist(), kind).reshape(array.shape)
        if array.dtype != DTYPES[kind]:
            raise RecloomError(f"{name} has the type {array.dtype}; the ids of this artefact are {kind}s")
        return array


def _load(path: Path, provider: Provider, threads: int | None) -> Any:
    if provider not in PROVIDERS:
        raise RecloomError(f"provider is one of {', '.join(PROVIDERS)}, found {provider!r}")
    wanted = PROVIDERS[provider]
    runtime = _runtime(provider)
    if wanted not in runtime.get_available_providers():
        raise RecloomError(_absent(provider))
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # what matters of its warnings is checked below
    if threads is not None:
        options.intra_op_num_threads = threads
    wish = [wanted] if provider == "cpu" else [wanted, PROVIDERS["cpu"]]  # raw ids stay on the CPU
    session = runtime.InferenceSession(str(path), options, providers=wish)
    if wanted not in session.get_providers():
        raise RecloomError(
            f"asked for {provider!r}, but onnxruntime fell back to {session.get_providers()[0]}: "
            "the CUDA or cuDNN libraries, or the GPU, are missing. Install them, or use provider 'cpu'."
        )
    return session


def _runtime(provider: Provider) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise RecloomError(
            f"an artefact runs in {WHEELS[provider]}, which is not installed: "
            f"pip install 'recloom-onnx[{EXTRAS[provider]}]'"
        ) from error
    return onnxruntime


def _absent(provider: Provider) -> str:
    found = [f"{name} {number}" for name in WHEELS.values() if (number := version(name))]
    hint = f"pip install 'recloom-onnx[{EXTRAS[provider]}]'"
    if len(found) > 1:
        hint = f"two wheels are in each other's way: pip uninstall {' '.join(WHEELS.values())}, then {hint}"
    return (
        f"provider {provider!r} needs {WHEELS[provider]}; found {' and '.join(found) or 'another build'}, "
        f"which has no {PROVIDERS[provider]}. Next: {hint}"
    )
