"""Graphs of a dataset: users and items, co-occurrence, sessions, and attributes of items.

In graphs of users and items, user u is node u and item i is node num_users + 1 + i; in graphs of items, item i is
node i. Index 0 of users (unknown) and of items (padding) are nodes without edges, so that tables of all users and
all items can be concatenated. They read no interactions but those they are given.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from recloom.data import Catalog, Interactions
from recloom.errors import DataError
from recloom.models import cooccurrence_counts
from torch import Tensor

from .graph import Graph


def bipartite(interactions: Interactions) -> Graph:
    """Users and items, an edge for each pair that interacted, however often."""
    users, items = interactions.pairs()
    first = interactions.num_users + 1
    return Graph(users, items + first, first + interactions.num_items + 1, directed=False)


def co_occurrence(interactions: Interactions, least: int = 1) -> Graph:
    """Items, an edge where at least `least` users had both, weighted with the number of these users."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows, block in cooccurrence_counts(interactions):
        block = block.tocoo()
        source, target = block.row + rows.start, block.col
        kept = (source < target) & (block.data >= least)
        found.append(tuple(torch.from_numpy(part[kept]) for part in (source, target, block.data)))  # type: ignore[arg-type]
    sources, targets, weights = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Graph(sources, targets, interactions.num_items + 1, weights, directed=False)


def sessions(interactions: Interactions, gap: float = 1800.0) -> Graph:
    """Items, an edge from each to the user's next item within `gap` seconds, weighted with the number of such steps.

    Where the source has no times, positions are used; then `gap` is a number of places.
    """
    rows = interactions.rows()
    users = torch.repeat_interleave(torch.arange(interactions.num_users + 1), interactions.lengths)
    items, times = interactions.items[rows].long(), interactions.times[rows]
    near = (users[1:] == users[:-1]) & (times[1:] - times[:-1] <= gap) & (items[1:] != items[:-1])
    return Graph(items[:-1][near], items[1:][near], interactions.num_items + 1, torch.ones(int(near.sum())))


def attributes(catalog: Catalog, columns: list[str], separator: str = "|") -> Graph:
    """Items and the values of these columns, an edge where an item has a value; a text may hold several.

    Item i is node i, and the values follow, named `column: value`. Raises DataError for a column that the items
    do not have or that holds vectors.
    """
    pairs = pl.concat(_values(catalog.items, column, separator) for column in columns)
    names = pairs["value"].unique(maintain_order=True)
    targets = pairs["value"].replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64)
    first = catalog.num_items + 1
    return Graph(
        torch.from_numpy(pairs["row"].to_numpy().astype(np.int64) + 1),
        torch.from_numpy(targets.to_numpy().copy()) + first,
        first + len(names),
        names=["", *(f"item {name}" for name in catalog.items["item_id"]), *names],
        directed=False,
    )


def _values(items: pl.DataFrame, column: str, separator: str) -> pl.DataFrame:
    """`row` and `value` of one column, one row for each value of an item."""
    kind = items.schema.get(column)
    if kind is None:
        raise DataError(f"the items have no column {column!r}; they have {', '.join(items.columns)}")
    if kind.is_nested() and not isinstance(kind, pl.List):
        raise DataError(f"the column {column!r} holds {kind}; attributes are texts, numbers or lists of them")
    values = items.select(pl.int_range(pl.len()).alias("row"), pl.col(column).alias("value"))
    if kind == pl.String:
        values = values.with_columns(pl.col("value").str.split(separator))
    if isinstance(values.schema["value"], pl.List):
        values = values.explode("value")
    text = pl.col("value").cast(pl.String).str.strip_chars()
    values = values.with_columns(text).filter(pl.col("value").is_not_null() & (pl.col("value") != ""))
    return values.with_columns(pl.format("{}: {}", pl.lit(column), "value").alias("value"))
