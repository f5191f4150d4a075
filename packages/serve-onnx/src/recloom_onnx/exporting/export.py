"""Write a recommender as one file that turns raw ids into raw ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir
import polars as pl
import torch
from recloom.batch import Batch
from recloom.data import Catalog
from recloom.errors import RecloomError
from recloom.io import sha256, version, versions
from recloom.recommender import ExportSpec, Recommender
from recloom.schemas import Protocol
from torch import Tensor

from ..artifact.ids import ALLOW_SENTINEL, Array, IdKind, check_integers
from ..artifact.manifest import (
    IndexReport,
    Manifest,
    data_path,
    id_digest,
    index_path,
    items_path,
    users_path,
    weight_digest,
)
from .graph import wrap, wrap_query
from .ports import RawCodes, ports
from .quantize import reduce_precision
from .staging import publish, staged
from .trace import examples, trace

RANDOM = 1000
"""Requests by which an index is measured where none are given."""
INLINE_LIMIT = 1_900_000_000
"""Bytes of weights above which they go to a file of their own; a protobuf file ends at 2 GB."""


def export_artefact(
    recommender: Recommender,
    catalog: Catalog,
    popularity: Tensor,
    out: Path,
    *,
    config: Mapping[str, Any] | None = None,
    protocol: Protocol | None = None,
    metrics: Mapping[str, float] | None = None,
    seen: Literal["masked", "kept"] = "masked",
    ids: IdKind = "string",
    inline_limit: int = INLINE_LIMIT,
    quantize: Literal["int8", "fp16"] | None = None,
    index_above: int | None = None,
    index_recall: float = 0.95,
    requests: Iterable[Batch] = (),
) -> Manifest:
    """Write `out` (`model.onnx`), where needed `model.onnx.data`, titles, ids of users, and the manifest `model.json`.

    Each file is complete or absent, and the manifest comes last; see `staging.py`. The artefact is not verified yet:
    its manifest has no parity, and `Session` refuses it until `verify_artefact` has compared it.

    Args:
        recommender: what `Recommender.export()` describes is all that is used of it.
        catalog: the raw ids that go into the file.
        popularity: (num_items + 1,) score of each item for cold-start users.
        out: path ending in `.onnx`.
        config: of the recommender, for the record.
        protocol: of the run, for the record.
        metrics: of the run, for the record.
        seen: whether items of the history may be recommended.
        ids: whether raw ids go in and come out as text, or as the integers that they spell.
        inline_limit: bytes of weights above which they go to `model.onnx.data`.
        quantize: store and compute in fewer bits, see `quantize.py`.
        index_above: number of items from which an index finds the best ones instead of scoring all, see
            `indexed_session.py`; None = never.
        index_recall: how much of the exact top 10 the index is to find.
        requests: by which that is measured; without any, random histories.

    Raises RecloomError where the recommender or an id cannot be exported.
    """
    _check(catalog, popularity)
    spec = recommender.export()
    item_ids = catalog.items["item_id"].to_list()
    user_ids = _known_users(recommender, catalog) if "user" in spec.inputs else {}
    if ids == "integer":
        check_integers(item_ids, "item_id")
        check_integers([*user_ids], "user_id")
    if spec.rows is not None and spec.rows < 1:
        raise RecloomError(
            f"export() of {type(recommender).__name__} says that {spec.rows} requests are computed at once; expected 1 "
            "or more, or None for any number"
        )
    codes = RawCodes(catalog.events, catalog.context)
    inputs, outputs = ports(spec.inputs, ids, codes)
    known = popularity[1:].detach().cpu().float().numpy()
    index, report = None, None
    if index_above is not None and catalog.num_items > index_above:
        index, report = _indexed(spec, catalog, requests, index_recall)
        assert spec.search is not None
        only = ExportSpec(spec.search.query, spec.inputs, spec.max_len)
        width = spec.search.items.shape[1]
        body = trace(only, catalog.num_items, catalog.num_users, width, len(catalog.context))
    else:
        body = trace(spec, catalog.num_items, catalog.num_users, context=len(catalog.context))
    if quantize is not None:
        reduce_precision(body, quantize)
    if index is None:
        model = wrap(body, spec.inputs, spec.max_len, item_ids, user_ids, known, seen, ids, codes)
    else:
        model = wrap_query(body, spec.inputs, spec.max_len, item_ids, user_ids, ids, codes)
    model.producer_name, model.producer_version = "recloom", version("recloom-onnx") or ""
    with staged(Path(out)) as staging:
        items = _items(catalog, None if index is None else known)
        users = (
            pl.DataFrame({"user_id": [*user_ids]}, {"user_id": pl.String}) if "user" in spec.inputs else None
        )
        files = _save(model, items, users, index, staging, inline_limit)
        manifest = Manifest(
            model=type(recommender).__name__,
            config=dict(config or {}),
            versions=versions(("recloom", "recloom-onnx", "torch", "onnx", "onnxscript")),
            opsets={domain or "ai.onnx": number for domain, number in model.opset_imports.items()},
            protocol=protocol,
            metrics=dict(metrics or {}),
            inputs=inputs,
            outputs=outputs,
            fields=list(spec.inputs),
            max_len=spec.max_len,
            rows=spec.rows,
            num_items=catalog.num_items,
            num_users=catalog.num_users,
            seen=seen,
            precision=quantize or "fp32",
            ids=ids,
            events=catalog.events if "history_event" in spec.inputs else None,
            context=list(catalog.context) if "context" in spec.inputs else [],
            id_table=id_digest(item_ids),
            weights=weight_digest(recommender.state_dict()),
            index=report,
            files=files,
        )
        manifest.write(staging)
        publish(staging, Path(out))
    return manifest


def _known_users(recommender: Recommender, catalog: Catalog) -> dict[str, int]:
    """Raw id to index, of the users that the recommender knows."""
    device = next((part.device for part in recommender.state_dict().values()), torch.device("cpu"))
    with torch.no_grad():
        known = recommender.knows_users(torch.arange(1, catalog.num_users + 1, device=device)).tolist()
    users = zip(catalog.users["user_id"].to_list(), known, strict=True)
    return {user: index for index, (user, is_known) in enumerate(users, 1) if is_known}


def _check(catalog: Catalog, popularity: Tensor) -> None:
    if not catalog.num_items:
        raise RecloomError("the catalogue holds no items, so there is nothing to recommend")
    if popularity.shape != (catalog.num_items + 1,):
        raise RecloomError(
            f"popularity has shape {tuple(popularity.shape)}; expected ({catalog.num_items + 1},), "
            "one number for each item after that of index 0"
        )
    if not popularity.isfinite().all():
        raise RecloomError("popularity holds a number that is not finite, which would rank before everything")
    _check_ids(catalog.items["item_id"].to_list(), "item_id")
    _check_ids(catalog.users["user_id"].to_list(), "user_id")


def _check_ids(ids: Sequence[str], column: str) -> None:
    """'' is padding in an artefact, and runtimes end a string at its first NUL."""
    bad = (
        row for row, value in enumerate(ids, start=1) if not value or "\0" in value or value == ALLOW_SENTINEL
    )
    wrong = next(bad, None)
    if wrong is not None:
        raise RecloomError(
            f"row {wrong} of the catalogue has {column} {ids[wrong - 1]!r}; an artefact needs ids that are not empty, "
            f"hold no NUL character and are not {ALLOW_SENTINEL!r}. Rename it and prepare the data again."
        )


def _indexed(
    spec: ExportSpec, catalog: Catalog, requests: Iterable[Batch], recall: float
) -> tuple[Any, IndexReport]:
    """The index, and how it compares with scoring everything."""
    from ..artifact import index

    if spec.search is None:
        raise RecloomError(
            f"{type(spec.module).__name__} gives scores that are no inner products of a query with each item, so no "
            "index finds the best of them. Export it as one file, without --index_above."
        )
    with torch.inference_mode():
        parts = [spec.search.query(*fields) for fields in _fields(spec, catalog, requests)]
    queries = torch.cat(parts).cpu().float().numpy()
    return index.build_index(spec.search.items.cpu().float().contiguous().numpy(), queries, recall)


def _fields(spec: ExportSpec, catalog: Catalog, requests: Iterable[Batch]) -> Iterator[tuple[Tensor, ...]]:
    """What the module reads of requests, of 1,000 random ones if there are none."""
    empty = True
    for batch in requests:
        empty = False
        yield tuple(getattr(batch.cut_to(spec.max_len), name) for name in spec.inputs)
    if empty:
        yield examples(spec, catalog.num_items, catalog.num_users, RANDOM, len(catalog.context))


def _items(catalog: Catalog, popularity: Array | None) -> pl.DataFrame | None:
    """What lies beside the file: ids and titles, and popularity for an index; None where that is ids alone."""
    table = catalog.items.select([name for name in ("item_id", "title") if name in catalog.items.columns])
    if popularity is not None:
        table = table.with_columns(popularity=pl.Series(popularity))
    return table if table.width > 1 else None


def _save(
    model: ir.Model,
    items: pl.DataFrame | None,
    users: pl.DataFrame | None,
    index: Any,
    out: Path,
    inline_limit: int,
) -> dict[str, str]:
    """Write what the artefact consists of; file name to sha256, the artefact itself first."""
    weights = sum(
        value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value
    )
    data = data_path(out).name if weights > inline_limit else None
    ir.save(model, out, external_data=data)
    written = [out, *([out.with_name(data)] if data else [])]
    if index is not None:
        from ..artifact.index import write

        written.append(index_path(out))
        write(index, written[-1])
    for path, table in ((items_path(out), items), (users_path(out), users)):
        if table is not None:
            table.write_parquet(path)
            written.append(path)
    return {path.name: sha256(path) for path in written}
