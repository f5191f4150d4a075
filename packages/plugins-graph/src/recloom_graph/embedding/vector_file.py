"""Files of vectors: Parquet, an id and a vector in each row, whole or absent, with what they were made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from recloom.data import ENCODER, ORIGIN
from recloom.io import whole_file
from torch import Tensor

from .sources import Nodes


def write_vectors(
    target: Path,
    nodes: Nodes,
    vectors: Tensor,
    known: Tensor,
    recipe: dict[str, Any],
    made_of: dict[str, Any],
) -> int:
    """Write the vectors of these nodes and return how many there are; a node that is not known has no row.

    Args:
        vectors: (N, dim) of all nodes of the graph.
        known: (N,) bool, whether a node was trained.
        recipe: how they were made; vectors of another recipe mean other things.
        made_of: of which data; a run that holds other rows out refuses them.
    """
    mine = slice(nodes.first, nodes.first + len(nodes.ids))
    kept = known[mine]
    matrix = vectors[mine][kept].numpy()
    ids = [name for name, has in zip(nodes.ids, kept.tolist(), strict=True) if has]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    facts = {ENCODER: json.dumps(recipe | made_of, sort_keys=True).encode()}
    if made_of:
        facts[ORIGIN] = json.dumps({"texts": None, "columns": None} | made_of).encode()
    table = pa.table({nodes.key: pa.array(ids), "vector": lists}).replace_schema_metadata(facts)
    with whole_file(target) as partial:
        pq.write_table(table, partial)
    return len(ids)
