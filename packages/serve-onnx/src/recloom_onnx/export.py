"""Write a recommender as one file that turns raw ids into raw ids."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.recommender import Recommender
from recloom.schemas import Protocol
from torch import Tensor

from .graph import ports, wrap
from .ids import IdKind, check_integers
from .manifest import Manifest, file_digest, id_digest, titles_path, weight_digest
from .quantize import reduce_precision
from .trace import trace

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
) -> Manifest:
    """Write `out` (`model.onnx`), where needed `model.onnx.data`, titles, and the manifest `model.json`.

    Each file is complete or absent, and the manifest comes last. The artefact is not verified yet: its
    manifest has no parity, and `Session` refuses it until `verify_artefact` has compared it.

    Args:
        recommender: what `Recommender.export()` describes is all that is used of it.
        catalog: the raw ids that go into the file.
        popularity: (num_items + 1,) score of each item where nothing is known of a user.
        out: path ending in `.onnx`.
        config: of the recommender, for the record.
        protocol: of the run, for the record.
        metrics: of the run, for the record.
        seen: whether items of the history may be recommended.
        ids: whether raw ids go in and come out as text, or as the integers that they spell.
        inline_limit: bytes of weights above which they go to `model.onnx.data`.
        quantize: store and compute in fewer bits, see `quantize.py`.

    Raises RecloomError where the recommender or an id cannot be exported.
    """
    out = Path(out)
    _check(catalog, popularity, out)
    spec = recommender.export()
    body = trace(spec, catalog.num_items, catalog.num_users)
    if quantize is not None:
        reduce_precision(body, quantize)
    item_ids = catalog.items["item_id"].to_list()
    user_ids = catalog.users["user_id"].to_list() if "user" in spec.inputs else []
    scores = popularity[1:].detach().cpu().float().numpy()
    if ids == "integer":
        check_integers(item_ids, "item_id")
        check_integers(user_ids, "user_id")
    model = wrap(body, spec.inputs, spec.max_len, item_ids, user_ids, scores, seen, ids)
    model.producer_name, model.producer_version = "recloom", version("recloom-onnx")
    inputs, outputs = ports(spec.inputs, ids)
    files = _save(model, catalog, out, inline_limit)
    manifest = Manifest(
        model=type(recommender).__name__,
        config=dict(config or {}),
        versions={name: version(name) for name in ("recloom", "recloom-onnx", "torch", "onnx", "onnxscript")},
        protocol=protocol,
        metrics=dict(metrics or {}),
        inputs=inputs,
        outputs=outputs,
        fields=list(spec.inputs),
        max_len=spec.max_len,
        num_items=catalog.num_items,
        num_users=catalog.num_users,
        seen=seen,
        precision=quantize or "fp32",
        ids=ids,
        id_table=id_digest(item_ids),
        weights=weight_digest(recommender.state_dict()),
        files=files,
    )
    manifest.write(out)
    return manifest


def _check(catalog: Catalog, popularity: Tensor, out: Path) -> None:
    if out.suffix != ".onnx":
        raise RecloomError(f"an artefact is a file that ends in .onnx, found {str(out)!r}")
    if not out.parent.is_dir():
        raise RecloomError(f"{out.parent} is not a folder; make it, or choose another place for {out.name}")
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
    wrong = next((row for row, value in enumerate(ids, start=1) if not value or "\0" in value), None)
    if wrong is not None:
        raise RecloomError(
            f"row {wrong} of the catalogue has {column} {ids[wrong - 1]!r}; an artefact needs ids "
            "that are not empty and hold no NUL character. Rename it and prepare the data again."
        )


def _save(model: ir.Model, catalog: Catalog, out: Path, inline_limit: int) -> dict[str, str]:
    """Write to a folder beside `out`, then move each file into place; file name to sha256."""
    weights = sum(
        value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value
    )
    data = out.name + ".data" if weights > inline_limit else None
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}-") as folder:
        ir.save(model, Path(folder) / out.name, external_data=data)
        names = [out.name, *([data] if data else [])]
        if "title" in catalog.items.columns:
            names.append(titles_path(out).name)
            catalog.items.select("item_id", "title").write_parquet(Path(folder) / names[-1])
        digests = {name: file_digest(Path(folder) / name) for name in names}
        for name in reversed(names):
            (Path(folder) / name).replace(out.with_name(name))
    return digests
