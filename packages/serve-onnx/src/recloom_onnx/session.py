"""Answer requests from an artefact. Needs onnxruntime, numpy and the manifest; not torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from recloom.errors import RecloomError

from .manifest import Manifest, read_manifest

Provider = Literal["cpu", "cuda"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
WHEELS = {"cpu": "onnxruntime", "cuda": "onnxruntime-gpu"}
EXTRAS = {"cpu": "cpu", "cuda": "gpu"}
NAMES = ["item_id", "score"]
Array = np.ndarray[Any, np.dtype[Any]]


class Recommended(NamedTuple):
    """One place of a list."""

    item_id: str
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

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        blocked: Sequence[Sequence[str]] | None = None,
        users: Sequence[str] | None = None,
        history_times: Sequence[Sequence[int]] | None = None,
        request_times: Sequence[int] | None = None,
    ) -> list[list[Recommended]]:
        """Return for each request the best k items that are left, best first.

        Args:
            histories: raw item ids of each request, most recent last; unknown ids are passed over.
            k: length of the lists; they are shorter where the catalogue has no more items to give.
            blocked: raw item ids never to recommend, for each request.
            users: raw user ids, where the model knows users; by default unknown.
            history_times: seconds beside `histories`, where the model reads times.
            request_times: seconds, where the model reads times.
        """
        rows = len(histories)
        if not rows:
            return []
        given: dict[str, Array] = {
            "history": pad(histories),
            "blocked": pad(blocked if blocked is not None else [()] * rows),
        }
        if users is not None:
            given["user"] = np.array([*map(str, users)], dtype=object)
        if history_times is not None:
            given["history_time"] = pad(history_times, np.int64)
        if request_times is not None:
            given["request_time"] = np.array(request_times, dtype=np.int64)
        ids, scores = self.run(given, min(k, self.manifest.num_items))
        left = (scores > -np.inf).sum(1)  # what is left comes first
        return [
            [*map(Recommended, row[:n], values[:n])]
            for row, values, n in zip(ids.tolist(), scores.tolist(), left.tolist(), strict=True)
        ]

    def run(self, given: dict[str, Array], k: int) -> tuple[Array, Array]:
        """(B, k) raw ids and (B, k) scores from padded arrays, '' and -inf where nothing is left.

        Args:
            given: `history` (B, L) and `blocked` (B, M) object arrays of str, and what else the model reads.
        """
        if k < 1:
            raise RecloomError(f"k is the length of the lists and must be 1 or more, found {k}")
        given = self._checked(given)
        try:
            ids, scores = self._session.run(NAMES, {**given, "k": np.array([k], dtype=np.int64)})
        except UnicodeEncodeError as error:
            raise RecloomError(f"an id of the request is not valid text: {error.object[:40]!r}") from error
        return ids, scores

    def _checked(self, given: dict[str, Array]) -> dict[str, Array]:
        rows = len(given["history"])
        if "user" in self.inputs and "user" not in given:
            given = {**given, "user": np.full(rows, "", dtype=object)}
        missing = [name for name in self.inputs if name not in given and name != "k"]
        if missing:
            raise RecloomError(f"{self.manifest.model} reads {missing[0]}; give it with every request")
        for name, array in given.items():
            if len(array) != rows:
                raise RecloomError(f"{name} has {len(array)} rows and history has {rows}; expected the same")
        if "history_time" in self.inputs and given["history_time"].shape != given["history"].shape:
            raise RecloomError(
                f"history_time has shape {given['history_time'].shape}, history {given['history'].shape}; "
                "expected one time for each item"
            )
        return {name: array for name, array in given.items() if name in self.inputs}


def pad(rows: Sequence[Sequence[Any]], dtype: type = object) -> Array:
    """Ragged rows to one (B, L) array, aligned right; '' (ids, as str) or 0 (numbers) on the left."""
    if any(isinstance(row, str) for row in rows):
        raise RecloomError(f"expected a list of ids for each request, found {rows[0]!r}; write [[...]]")
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    width = int(lengths.max(initial=0))
    padded: Array = np.full((len(rows), width), "" if dtype is object else 0, dtype=dtype)
    flat = chain.from_iterable(rows)
    values: Array = np.fromiter(map(str, flat) if dtype is object else flat, dtype, int(lengths.sum()))
    padded[np.arange(width) >= (width - lengths)[:, None]] = values  # row by row, as `values` are
    return padded


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
    found = [f"{name} {number}" for name in WHEELS.values() if (number := _version(name))]
    hint = f"pip install 'recloom-onnx[{EXTRAS[provider]}]'"
    if len(found) > 1:
        hint = f"two wheels are in each other's way: pip uninstall {' '.join(WHEELS.values())}, then {hint}"
    return (
        f"provider {provider!r} needs {WHEELS[provider]}; found {' and '.join(found) or 'another build'}, "
        f"which has no {PROVIDERS[provider]}. Next: {hint}"
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
