"""A session over an artefact of two files: a graph from raw ids to query vectors, and an index over item vectors.

It answers as the graph of one file does, but for items that the index does not find. What is hidden is left out
after the search, which therefore asks for so many more; rows that end too early are searched again in all lists;
allowed items are scored one by one, exactly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import index as indexes
from .ids import DTYPES, PADDING, Array, id_array
from .manifest import Manifest, index_path, items_path

CELLS = 8_000_000
"""Numbers in the vectors of allowed items that are gathered at a time."""
BELOW = np.float32(-np.inf)


class IndexedSession:
    """Runs like a session of onnxruntime whose outputs are ids and scores.

    Args:
        encoder: onnxruntime session of the graph.
        path: the artefact; index and table of items lie beside it.
        manifest: of the artefact.
        threads: of a search; None: as many as faiss likes.
    """

    def __init__(self, encoder: Any, path: Path, manifest: Manifest, threads: int | None = None) -> None:
        import polars as pl

        assert manifest.index is not None
        self.encoder, self.threads = encoder, threads
        self.size, self.seen = manifest.num_items, manifest.seen
        self.index = indexes.read(index_path(path), manifest.index)
        table = pl.read_parquet(items_path(path), columns=["item_id", "popularity"], glob=False)
        ids = [*table["item_id"].to_list(), PADDING[manifest.ids]]
        self.ids: Array = id_array(ids, manifest.ids).astype(DTYPES[manifest.ids])
        self.popularity = table["popularity"].to_numpy()
        self.popular = np.argsort(-self.popularity, kind="stable")

    def run(self, names: list[str], given: dict[str, Array]) -> tuple[Array, Array]:
        """(B, k) raw ids and (B, k) scores; `names` are those of the outputs, as onnxruntime wants them."""
        k = max(0, int(given["k"][0]))
        if self.threads is not None:  # it holds for the calling thread, which may be another each time
            indexes.faiss_library().omp_set_num_threads(self.threads)
        found = self.encoder.run(None, {name: value for name, value in given.items() if name != "k"})
        read = dict(zip((port.name for port in self.encoder.get_outputs()), found, strict=True))
        hidden = read["blocked_index"]
        if self.seen == "masked":
            hidden = np.concatenate([read["history_index"], hidden], axis=1)
        places, scores = self._searched(read["query"], hidden - 1, min(k, self.size))
        self._replace(places, scores, self._popular(hidden - 1, read["unknown"], k), read["unknown"])
        self._replace(places, scores, self._allowed(read, hidden - 1, k), read["limited"])
        wide = np.full((len(places), k), self.size), np.full((len(places), k), BELOW, np.float32)
        wide[0][:, : places.shape[1]], wide[1][:, : places.shape[1]] = places, scores
        return self.ids[wide[0]], wide[1]

    def _searched(self, query: Array, hidden: Array, k: int) -> tuple[Array, Array]:
        """(B, k) columns and scores of what is not in (B, H) hidden columns."""
        most = min(self.size, k + hidden.shape[1])
        scores, places = self.index.search(query, most) if most else _empty(len(query))
        places, scores = self._left(places, scores, hidden, k)
        left = self.size - self._count(hidden)
        short = (places < self.size).sum(1) < np.minimum(k, left)
        if short.any():
            everywhere = indexes.faiss_library().SearchParametersIVF(nprobe=self.index.nlist)
            scores_, places_ = self.index.search(query[short], most, params=everywhere)
            places[short], scores[short] = self._left(places_, scores_, hidden[short], k)
        return places, scores

    def _popular(self, hidden: Array, unknown: Array, k: int) -> tuple[Array, Array]:
        """By popularity, for the rows of unknown users."""
        most = min(self.size, k + hidden.shape[1])
        places = np.broadcast_to(self.popular[:most], (int(unknown.sum()), most))
        return self._left(places, self.popularity[places], hidden[unknown], min(k, self.size))

    def _allowed(self, read: dict[str, Array], hidden: Array, k: int) -> tuple[Array, Array]:
        """Of the allowed items only, for the rows that are limited to them."""
        rows = np.flatnonzero(read["limited"])
        allowed = np.sort(read["allowed_index"][rows] - 1, axis=1)  # by the order of the catalogue
        allowed[:, 1:][allowed[:, 1:] == allowed[:, :-1]] = -1  # each once
        scores: Array = np.full(allowed.shape, BELOW, np.float32)
        step = max(1, CELLS // max(1, allowed.shape[1] * self.index.d))
        for low in range(0, len(rows), step):
            some = slice(low, low + step)
            vectors = self.index.reconstruct_batch(allowed[some].clip(0).ravel())
            vectors = vectors.reshape(*allowed[some].shape, -1)
            exact = np.einsum("bad,bd->ba", vectors, read["query"][rows[some]])
            popular = self.popularity[allowed[some].clip(0)]
            scores[some] = np.where(read["unknown"][rows[some], None], popular, exact)
        scores[allowed < 0] = BELOW
        order = np.argsort(-scores, axis=1, kind="stable")
        places = np.take_along_axis(np.where(allowed < 0, -1, allowed), order, 1)
        return self._left(places, np.take_along_axis(scores, order, 1), hidden[rows], min(k, self.size))

    def _left(self, places: Array, scores: Array, hidden: Array, k: int) -> tuple[Array, Array]:
        """The first k of (B, any) columns, best first, that are not hidden; `size` and -inf behind them."""
        row = np.arange(len(places))[:, None] * (self.size + 1)
        gone = (places < 0) | np.isin(row + places, (row + hidden)[hidden >= 0])
        if places.shape[1] < k:
            room = ((0, 0), (0, k - places.shape[1]))
            places, scores = np.pad(places, room), np.pad(scores, room)
            gone = np.pad(gone, room, constant_values=True)
        order = np.argsort(gone, axis=1, kind="stable")[:, :k]
        gone = np.take_along_axis(gone, order, 1)
        kept = np.where(gone, self.size, np.take_along_axis(places, order, 1))
        return kept, np.where(gone, BELOW, np.take_along_axis(scores, order, 1)).astype(np.float32)

    def _count(self, hidden: Array) -> Array:
        """(B,) how many different items are hidden."""
        ordered = np.sort(hidden, axis=1)
        new = np.ones_like(ordered, dtype=bool)
        new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        counts: Array = (new & (ordered >= 0)).sum(1)
        return counts

    def _replace(self, places: Array, scores: Array, found: tuple[Array, Array], rows: Array) -> None:
        places[rows], scores[rows] = found


def _empty(rows: int) -> tuple[Array, Array]:
    return np.empty((rows, 0), np.float32), np.empty((rows, 0), np.int64)
