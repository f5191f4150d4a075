"""`recloom graph predict`: missing attributes of items from the graph of co-occurrence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from recloom.command import command
from recloom.errors import RecloomError

if TYPE_CHECKING:
    from recloom.data import Catalog
    from torch import Tensor


@command("graph predict")
def predict(
    data: Path,
    *,
    attribute: str,
    out: Path | None = None,
    vectors: Path | None = None,
    conv: Literal["GCN", "SAGE", "GAT"] = "GCN",
    dim: int = 64,
    num_layers: int = 2,
    neighbours: int = 20,
    epochs: int = 200,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Predict an attribute of the items that lack it, from the items that the same users had.

    The network learns from a part of the items with a value; the accuracy on the others is printed beside that of the
    most frequent value, and beside that of a graph whose items were shuffled. Interactions held out for tests are not
    read.

    Args:
        data: folder of a prepared dataset.
        attribute: column of its items, such as genres; a text may hold several values between `|`.
        out: Parquet file of the predictions, by default ATTRIBUTE.parquet.
        vectors: Parquet file of item vectors, made by `recloom embed`; by default the graph alone is used.
        conv: which graph convolution.
        dim: size of the vectors between convolutions; a multiple of 8 for GAT.
        num_layers: convolutions.
        neighbours: edges that lead from an item, to those closest to it.
        epochs: of training; the best by held-out items is taken.
        seed: of what is held out, and of everything else random.
        overwrite: replace an existing file.
    """
    from recloom.data.batches import RecDataModule
    from recloom.errors import at_least
    from recloom.io import whole_file, writable
    from recloom.terminal import plain

    from ..graphs.dataset_graphs import co_occurrence
    from .item_attributes import NetworkSettings, attribute_values, learn, nearest_neighbours, predictions

    at_least(1, neighbours=neighbours, epochs=epochs, dim=dim, num_layers=num_layers)
    target = out or _named_after(attribute)
    writable(target, endings=(".parquet",), overwrite=overwrite)
    module = RecDataModule(str(data), vectors=None if vectors is None else str(vectors), seed=seed)
    module.setup()
    known = attribute_values(module.catalog, attribute)
    edges = nearest_neighbours(co_occurrence(module.train), neighbours)
    text = None if vectors is None else _tensor(module.catalog)
    found = learn(edges, text, known, NetworkSettings(conv, dim, num_layers, epochs, seed))
    print(f"{plain(attribute)}: {len(known.items):,} items have one of {len(known.names):,} values")
    print(f"right for {found.accuracy:.1%} of {found.held_out:,} held-out items")
    print(f"          {found.majority:.1%} if every item were {plain(found.most)}")
    print(f"          {found.shuffled:.1%} with the edges of another item for each")
    table = predictions(found, known, edges, module.catalog)
    if not len(table):
        print("no item lacks a value, so nothing is written")
        return
    with whole_file(target) as partial:
        table.write_parquet(partial)
    alone = int((table["neighbours"] == 0).sum())
    note = f"; {alone:,} of them have no neighbour, so their value is a guess" if alone else ""
    print(f"{len(table):,} predictions written to {target}{note}")


def _named_after(attribute: str) -> Path:
    if not attribute or Path(attribute).name != attribute:
        raise RecloomError(
            f"--attribute {attribute}: no file can be named after it; name a file for the predictions with --out"
        )
    return Path(f"{attribute}.parquet")


def _tensor(catalog: Catalog) -> Tensor:
    """(num_items + 1, F) vectors of the items, 0 for padding."""
    import torch

    return torch.from_numpy(catalog.vectors())
