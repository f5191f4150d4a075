"""The models of a server by name and version; a reload replaces a version without losing a request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from recloom.errors import RecloomError

from ..artifact.ids import PADDING, Array, padded
from ..artifact.session import Session
from .batching import Batcher
from .http_errors import OVERLOADED, RETRY, HttpError, brief
from .settings import Settings
from .tensors import Inputs
from .title_index import TitleIndex, title_index_of

FILE = "model.onnx"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
WARM_LENGTH = 50
"""Items of a warm-up request, where the model has no longest history."""


@dataclass(frozen=True)
class Source:
    """A model's name, and its file or folder."""

    name: str
    path: Path


@dataclass(frozen=True, eq=False)
class Served:
    """One version of a model. It lives as long as the last request that found it."""

    name: str
    version: str
    session: Session
    title_index: TitleIndex
    batcher: Batcher

    async def answer(self, given: Inputs, k: int) -> tuple[Array, Array]:
        """(B, k) ids and (B, k) scores of requests, which run together with those of others.

        Args:
            given: as for `Session.run`; checked and completed here, and nowhere after.
            k: length of the lists.
        """
        return await self.batcher.submit(self.session.prepare(given), k)

    def unknown_user(self, user: str | int | None) -> str | None:
        """The raw id of a user that the model does not know; None where it does, or where none is given."""
        known = self.session.user_ids
        if user is None or known is None or not str(user) or str(user) in known:
            return None
        return str(user)

    def unknown_counts(self, given: Inputs) -> dict[str, int]:
        """How many items of the histories and how many users of a request the model does not know.

        Args:
            given: as for `Session.run`; padding is neither.
        """
        known = {"history": self.title_index.known, "user": self.session.user_ids}
        words = {"history": "unknown_items", "user": "unknown_users"}
        blank = str(PADDING[self.session.manifest.ids])
        found = {}
        for name, ids in known.items():
            if name in given and ids is not None:
                sent = map(str, given[name].ravel().tolist())
                found[words[name]] = sum(one not in ids for one in sent if one and one != blank)
        return found


class Models:
    """The models of a server.

    Args:
        sources: in order; the first is asked where a request names none.
        settings: of the server.
        watch: called with model, version, requests and rows of every batch.
        loads: called after every load with the model, the versions that are served now, and why a new one was
            refused, or "".
    """

    def __init__(
        self,
        sources: Sequence[Source],
        settings: Settings,
        watch: Callable[[str, str, int, int], None] = lambda model, version, requests, rows: None,
        loads: Callable[[str, list[str], str], None] = lambda model, versions, reason: None,
    ) -> None:
        self._sources = {source.name: source for source in sources}
        self._settings, self._watch, self._loads = settings, watch, loads
        self._served: dict[str, dict[str, Served]] = {}
        self._locks = {source.name: asyncio.Lock() for source in sources}
        self._waiting: dict[str, asyncio.Task[list[Served]]] = {}
        """Loads that are queued."""
        self.draining = False
        """Whether the server is shutting down."""

    @property
    def ready(self) -> bool:
        """Whether every model is loaded and the server is not shutting down."""
        return len(self._served) == len(self._sources) and not self.draining

    @property
    def names(self) -> list[str]:
        """Names of the models, in the order in which they were given."""
        return list(self._sources)

    def __iter__(self) -> Iterator[Served]:
        for name in self._sources:
            yield from self._served.get(name, {}).values()

    def find(self, name: str | None = None, version: str | None = None) -> Served:
        """The version asked for, by default the highest; HttpError with 404 where there is none."""
        name = self.names[0] if name is None else self._known(name)
        versions = self._served.get(name)
        if versions is None:
            raise HttpError(f"model {name} is being loaded; try again soon", OVERLOADED, RETRY)
        if version is None:
            return versions[next(reversed(versions))]
        if version not in versions:
            raise HttpError(
                f"model {name} has no version {brief(version)}; its versions are {', '.join(versions)}", 404
            )
        return versions[version]

    def versions(self, name: str) -> list[str]:
        """Versions of a model, lowest first."""
        return list(self._served.get(self._known(name), {}))

    async def load_all(self) -> None:
        """Load every model; RecloomError from the first that cannot be loaded."""
        for name in self.names:
            await self.load(name)

    async def load(self, name: str) -> list[Served]:
        """Load a model's versions as they are on disk now, warm them up, and put them in the place of the old ones.

        RecloomError where one of them cannot be loaded; the versions from before are then kept. A load is finished
        even if its caller has gone; calls made while one is queued share it.
        """
        name = self._known(name)
        if name not in self._waiting:
            self._waiting[name] = asyncio.get_running_loop().create_task(self._load(name))
            self._waiting[name].add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._waiting[name])

    async def _load(self, name: str) -> list[Served]:
        source = self._sources[name]
        async with self._locks[name]:
            del self._waiting[name]
            try:
                versions = await asyncio.to_thread(self._open, source)
            except RecloomError as error:
                self._loads(name, self.versions(name), str(error))
                raise
            self._served = {**self._served, name: versions}
            self._loads(name, list(versions), "")
        return list(versions.values())

    def _known(self, name: str) -> str:
        if name not in self._sources:
            raise HttpError(f"no model is called {brief(name)}; there are {', '.join(self.names)}", 404)
        return name

    def _open(self, source: Source) -> dict[str, Served]:
        found = {}
        try:
            files = files_of(source)
        except OSError as error:
            raise RecloomError(f"{source.path} cannot be read: {error.strerror or error}") from error
        for version, path in files.items():
            try:
                found[version] = self._warm(source.name, version, path)
            except RecloomError:
                raise
            except Exception as error:  # onnxruntime's own have no class in common
                line = str(error).partition("\n")[0]
                raise RecloomError(
                    f"{path} cannot be run: {type(error).__name__}: {line}. Export it again, or ask less of the machine"
                ) from error
        return found

    def _warm(self, name: str, version: str, path: Path) -> Served:
        """A loaded version, after warm-up requests of one row and of the largest batch."""
        settings = self._settings
        session = Session(path, settings.provider, settings.threads)
        title_index, manifest, _ = title_index_of(session), session.manifest, session.user_ids
        for rows in {1, settings.max_batch}:
            history = padded([title_index.ids[:1] * (manifest.max_len or WARM_LENGTH)] * rows, manifest.ids)
            times = np.zeros(history.shape, np.int64)
            session.run({"history": history, "history_time": times, "request_time": times[:, 0]}, 10)
        batcher = Batcher(
            session.run_prepared,
            manifest.ids,
            settings.max_batch,
            settings.max_delay_ms / 1000,
            settings.max_waiting,
            lambda requests, rows: self._watch(name, version, requests, rows),
        )
        return Served(name, version, session, title_index, batcher)


def find_sources(words: Sequence[str]) -> list[Source]:
    """Models from `model.onnx`, `NAME=PATH`, a folder of one, or a folder of NAME/VERSION/model.onnx."""
    found = [source for word in words for source in _sources_of(word)]
    if not found:
        raise RecloomError("name at least one artefact to serve: recloom serve model.onnx")
    for source in found:
        if not NAME.fullmatch(source.name):
            raise RecloomError(
                f"{source.path} would be called {brief(source.name)}; a name has letters, digits, '.', '_' and '-'. "
                "Choose one with NAME=PATH"
            )
        same = [other.path for other in found if other.name == source.name]
        if len(same) > 1:
            raise RecloomError(
                f"{same[0]} and {same[1]} would both be called {source.name}; choose names with NAME=PATH"
            )
    return found


def _sources_of(word: str) -> list[Source]:
    name, equals, path = word.partition("=")
    if equals and NAME.fullmatch(name) and not Path(word).exists():
        return [Source(name, Path(path))]
    place = Path(word)
    if not place.is_dir():
        return [Source(place.stem, place)]
    if (place / FILE).is_file() or _numbered(place):
        return [Source(place.resolve().name, place)]
    inner = [folder for folder in sorted(place.iterdir()) if folder.is_dir() and _numbered(folder)]
    if not inner:
        raise RecloomError(
            f"{place} holds no {FILE}, no VERSION/{FILE} and no NAME/VERSION/{FILE} with a number as VERSION. "
            "Write an artefact with `recloom export RUN --out FILE`"
        )
    return [Source(folder.name, folder) for folder in inner]


def files_of(source: Source) -> dict[str, Path]:
    """Files of a model by version, lowest first; a single file is version 1."""
    if source.path.is_dir() and not (source.path / FILE).is_file():
        found = _numbered(source.path)
        if not found:
            raise RecloomError(f"{source.path} holds no VERSION/{FILE} any more; put one there")
        return found
    path = source.path / FILE if source.path.is_dir() else source.path
    if not path.is_file():
        raise RecloomError(
            f"{path} does not exist. Serve the file that `recloom export RUN --out FILE` has written"
        )
    return {"1": path}


def _numbered(folder: Path) -> dict[str, Path]:
    """Version to file, in order of their numbers."""
    numbers = [entry for entry in folder.iterdir() if entry.name.isdecimal() and entry.is_dir()]
    found = [entry for entry in numbers if (entry / FILE).is_file()]
    for entry in numbers:
        other = next(iter(sorted(entry.glob("*.onnx"))), None)
        if entry not in found and other:
            raise RecloomError(
                f"{entry} holds {other.name} and no {FILE}, so it would not be served; export it again with --out "
                f"{entry / FILE}"
            )
    return {entry.name: entry / FILE for entry in sorted(found, key=lambda entry: int(entry.name))}
