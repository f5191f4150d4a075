"""Files of SeRALM (reconstruction): Parquet tables by item and variant, and the work folder of `recloom seralm rounds`.

All are written atomically and name the method in their metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from recloom.data import ENCODER, ORIGIN, Catalog
from recloom.errors import DataError, RecloomError
from torch import Tensor

from .rewards import Rewards
from .variants import Variants, served, uniform

if TYPE_CHECKING:
    import polars as pl


def read_variants(path: str | Path, catalog: Catalog) -> Variants:
    """Read `item_id`, `variant`, `vector`; DataError where the file does not describe texts of this catalogue."""
    table = read_table(path, ("item_id", "variant", "vector"))
    item, variant = places(table, catalog, path)
    sizes = table["vector"].cast(pl.List(pl.Float32)).list.len().unique().to_list()
    if len(sizes) != 1:
        raise DataError(f"{path}: all vectors must have one size; found {sorted(sizes)}")
    given = np.asarray(table["vector"].to_list(), np.float32).reshape(len(table), -1)
    if not np.isfinite(given).all():
        raise DataError(f"{path}: a vector holds a number that is not finite")
    vectors = torch.zeros(catalog.num_items + 1, int(variant.max()) + 1, given.shape[1])
    exists = torch.zeros(vectors.shape[:2], dtype=torch.bool)
    vectors[item, variant], exists[item, variant] = torch.from_numpy(given), True
    return Variants(vectors, exists)


def read_posterior(path: str | Path | None, variants: Variants, catalog: Catalog) -> Tensor:
    """(num_items + 1, K) of `item_id`, `variant`, `q`; without a path every text alike."""
    if path is None:
        return uniform(variants.exists)
    table = read_table(path, ("item_id", "variant", "q"))
    item, variant = places(table, catalog, path)
    q = torch.zeros(variants.exists.shape, device=variants.vectors.device)
    q[item, variant] = torch.from_numpy(table["q"].cast(pl.Float32).to_numpy().copy()).to(q.device)
    total = q.sum(1)
    if (q[~variants.exists] != 0).any() or not torch.allclose(
        total, variants.exists.any(1).float(), atol=1e-3
    ):
        raise DataError(
            f"{path}: q must sum to 1 over the texts of each item that has any, and be 0 elsewhere"
        )
    return q


def read_table(path: str | Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """A Parquet file with these columns, ids as text."""
    try:
        table = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    if not set(columns) <= set(table.columns):
        raise DataError(
            f"{path} must have the columns {', '.join(columns)}; found {', '.join(table.columns)}"
        )
    return table.select(columns).with_columns(pl.col("item_id").cast(pl.String))


def places(table: pl.DataFrame, catalog: Catalog, path: str | Path) -> tuple[Tensor, Tensor]:
    """(N,) item indices and (N,) variants of the rows; DataError for an unknown item or a variant out of order."""
    item = torch.from_numpy(catalog.item_index(table["item_id"]).copy())
    if not len(table) or not bool(item.all()):
        unknown = table["item_id"][int((item == 0).nonzero()[0])] if len(table) else "no row"
        raise DataError(
            f"{path}: the dataset has no item {unknown!r}. Was the file made for another dataset?"
        )
    if not table["variant"].dtype.is_integer() or table["variant"].null_count():
        raise DataError(
            f"{path}: column variant must hold whole numbers from 0; found {table['variant'].dtype}"
        )
    variant = torch.from_numpy(table["variant"].cast(pl.Int64).to_numpy().copy())
    counted = table.group_by("item_id").agg(
        pl.col("variant").n_unique().alias("distinct"), pl.len().alias("rows"),
        pl.col("variant").min().alias("low"), pl.col("variant").max().alias("high"),
    )  # fmt: skip
    wrong = counted.filter(
        (pl.col("distinct") < pl.col("rows")) | (pl.col("low") != 0) | (pl.col("high") != pl.col("rows") - 1)
    )
    if len(wrong):
        raise DataError(
            f"{path}: the variants of item {wrong['item_id'][0]!r} must be 0, 1, ... each once; found "
            f"{wrong['rows'][0]} rows from {wrong['low'][0]} to {wrong['high'][0]}"
        )
    return item, variant


def write_posterior(path: Path, catalog: Catalog, exists: Tensor, q: Tensor) -> None:
    """`item_id`, `variant`, `q`; q is (num_items + 1, K)."""
    write_table(path, _pairs(catalog, exists).with_columns(pl.Series("q", q[exists].numpy())))


def write_rewards(path: Path, catalog: Catalog, exists: Tensor, found: Rewards) -> None:
    """`item_id`, `variant`, `reward` in nats, and `positions`: how many training positions hold the item."""
    positions = found.positions[:, None].expand(exists.shape)[exists]
    write_table(
        path,
        _pairs(catalog, exists).with_columns(
            pl.Series("reward", found.values[exists].numpy()), pl.Series("positions", positions.numpy())
        ),
    )


def read_rewards(path: Path, catalog: Catalog, exists: Tensor) -> Rewards:
    """Read a file of `write_rewards`."""
    table = read_table(path, ("item_id", "variant", "reward", "positions"))
    item, variant = places(table, catalog, path)
    values, positions = torch.zeros(exists.shape), torch.zeros(len(exists), dtype=torch.long)
    values[item, variant] = table["reward"].to_torch().float()
    positions[item] = table["positions"].to_torch()
    return Rewards(values, positions)


def write_served(
    path: Path,
    catalog: Catalog,
    variants: Variants,
    q: Tensor,
    how: Literal["best", "mean"],
    made: Mapping[str, Any] | None = None,
    encoder: str = "",
) -> None:
    """`item_id`, `vector` for each item that has a text, as `--data.vectors` reads it; `made` is their origin."""
    has = variants.exists.any(1)[1:]
    rows = served(variants.vectors, q, how)[1:][has].numpy()
    ids = catalog.items["item_id"].filter(pl.Series(has.numpy()))
    vectors = pl.Series("vector", rows, dtype=pl.Array(pl.Float32, rows.shape[1]))
    facts = {ORIGIN.decode(): json.dumps(made)} if made else {}
    facts |= {ENCODER.decode(): encoder} if encoder else {}
    write_table(path, pl.DataFrame([ids, vectors]), facts)


def _pairs(catalog: Catalog, exists: Tensor) -> pl.DataFrame:
    """`item_id` and `variant` of every text, in the order of `tensor[exists]`."""
    item, variant = exists.nonzero(as_tuple=True)
    return pl.DataFrame(
        [
            catalog.items["item_id"].gather((item - 1).numpy()),
            pl.Series("variant", variant.numpy(), dtype=pl.Int32),
        ]
    )


METHOD = "SeRALM (reconstruction from the abstract; no official code or figures exist)"
"""Written into every file."""
SETTINGS = "seralm.json"


@dataclass(frozen=True)
class WorkFolder:
    """A work folder whose finished files are not made again."""

    path: Path

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Start in an empty folder, or continue in one of equal settings; RecloomError for any other."""
        file = self.path / SETTINGS
        if not file.is_file():
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise RecloomError(
                    f"{self.path} holds something other than rounds of SeRALM; choose another --out"
                )
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(file, settings)
            return
        before = read_json(file)
        after = json.loads(json.dumps(settings))
        changed = [name for name in after if before.get(name) != after[name]]
        if changed:
            changes = "; ".join(f"{name} was {before.get(name)!r}, now {after[name]!r}" for name in changed)
            raise RecloomError(
                f"{self.path} was started with other settings: {changes}. Choose another --out."
            )

    def round(self, number: int) -> WorkFolder:
        """The folder of a round, from 1."""
        inside = WorkFolder(self.path / f"round-{number}")
        inside.path.mkdir(exist_ok=True)
        return inside

    def file(self, name: str) -> Path:
        return (self.path / name).absolute()

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a small JSON file with the method in it; atomic."""
    from recloom.io import write_text

    write_text(path, json.dumps({"method": METHOD, **content}, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of `write_json`."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise RecloomError(f"{path} cannot be read as JSON: {error}. Remove it, and run again.") from error
    return found


def write_table(path: Path, table: pl.DataFrame, facts: Mapping[str, str] | None = None) -> None:
    """Write a Parquet file with the method in its metadata, to which `facts` are added; atomic."""
    from recloom.io import whole_file

    with whole_file(path) as partial:
        table.write_parquet(partial, metadata={"recloom.method": METHOD} | dict(facts or {}))
