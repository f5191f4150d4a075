"""The items of a catalogue as paths of codes in a trie, flat: what a generative recommender may say.

Items are sorted by their paths, so that those below a node are one range of that order. Whether anything below a node
may still be said is then a difference of two sums over masked items, and each masked item counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import RecloomError

Ints = np.ndarray[Any, np.dtype[np.int64]]


class CatalogueTrie(nn.Module):
    """A trie whose leaves are the items 1..num_items; two items never share a path.

    Nodes are numbered from the root (0) level by level, so that edge e leads to node e + 1, and the edges of a node
    are one range, sorted by code.

    Args:
        paths: the codes of each item, item 1 first, each from 0; of unequal lengths only with `end`.
        end: a code that is set behind every path, so that one path may begin with another; None = no such code.

    Attributes:
        codes: (num_items + 1, D) int64 paths with their end, -1 behind them; row 0 is -1.
        lengths: (num_items + 1,) int64 codes of each path, its end included.
        starts: (nodes + 1,) int64; node n owns the edges `starts[n]:starts[n + 1]`.
        edge_code: (edges,) int64.
        item: (nodes,) int64 item at a leaf, 0 elsewhere.
        first, last: (nodes,) int64; the items below a node are those of this range of `order`.
        order: (num_items,) int64 items sorted by their paths.

    Raises RecloomError for an empty path, a code below 0 or equal to `end`, two items with one path, or a path that
    begins with another where there is no end.
    """

    codes: Tensor
    lengths: Tensor
    starts: Tensor
    edge_code: Tensor
    item: Tensor
    first: Tensor
    last: Tensor
    order: Tensor

    def __init__(self, paths: Sequence[Sequence[int]], end: int | None = None) -> None:
        super().__init__()
        if not paths or not all(len(path) for path in paths):
            raise RecloomError("a catalogue trie needs items, and at least one code for each")
        behind = [] if end is None else [end]
        flat = np.fromiter((code for path in paths for code in path), np.int64)
        if flat.min() < 0 or (end is not None and (flat == end).any()):
            raise RecloomError(
                f"codes are at least 0 and not the end marker {end}; found {int(flat.min())} among them"
            )
        lengths = np.array([len(path) + len(behind) for path in paths])
        codes = np.full((len(paths), lengths.max()), -1, np.int64)
        codes[np.arange(lengths.max()) < lengths[:, None]] = [
            code for path in paths for code in (*path, *behind)
        ]
        self.end, self.num_items = end, len(paths)
        self.num_codes = int(codes.max()) + 1
        """How many codes there are, from 0 to the largest."""
        rows = np.lexsort(codes.T[::-1])
        self._refuse_shared(codes[rows], rows)
        made = self._built(codes[rows], lengths[rows], rows)
        made |= {
            "codes": np.vstack([np.full_like(codes[:1], -1), codes]),
            "lengths": np.concatenate([[0], lengths]),
        }
        for name, values in made.items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def _refuse_shared(self, ordered: Ints, rows: Ints) -> None:
        """Neighbours in the order of paths are the same, or one begins with the other, where any two are or do."""
        one, other = ordered[:-1], ordered[1:]
        begins = ((one == other) | (one < 0)).all(1)
        if not begins.any():
            return
        at = int(np.flatnonzero(begins)[0])
        pair = sorted((int(rows[at]) + 1, int(rows[at + 1]) + 1))
        what = (
            "have the same path"
            if (one[at] == other[at]).all()
            else "have paths of which one begins with the other"
        )
        raise RecloomError(
            f"items {pair[0]} and {pair[1]} {what}: {one[at][one[at] >= 0].tolist()}. Give each item a path of its own"
            + ("" if "same" in what else ", or an end marker")
        )

    def _built(self, codes: Ints, lengths: Ints, rows: Ints) -> dict[str, Ints]:
        """Edges level by level, from sorted paths."""
        node = np.zeros(len(codes), np.int64)  # of each item, on the level above
        changed = np.zeros(len(codes), bool)
        changed[0] = True
        parents, edge_code, first, size = [], [], [np.array([0])], [np.array([len(codes)])]
        leaves, ended, nodes = [], [], 1
        for depth in range(codes.shape[1]):
            changed[1:] |= codes[1:, depth] != codes[:-1, depth]
            here = lengths > depth
            new = np.flatnonzero(changed & here)
            parents.append(node[new])
            edge_code.append(codes[new, depth])
            node = np.where(here, nodes + np.cumsum(changed & here) - 1, node)
            first.append(new)
            size.append(np.bincount(node[here] - nodes, minlength=len(new)))
            ends = lengths == depth + 1
            leaves.append(node[ends])
            ended.append(rows[ends] + 1)
            nodes += len(new)
        begin = np.concatenate(first)
        item = np.zeros(nodes, np.int64)
        item[np.concatenate(leaves)] = np.concatenate(ended)
        counts = np.bincount(np.concatenate(parents), minlength=nodes)
        return {
            "starts": np.concatenate([[0], np.cumsum(counts)]),
            "edge_code": np.concatenate(edge_code),
            "item": item,
            "first": begin,
            "last": begin + np.concatenate(size),
            "order": (rows + 1).astype(np.int64),
        }

    def masked_sums(self, masked: Tensor) -> Tensor:
        """(B, num_items + 1) int64 for `alive`: how many of the first i items in the order of paths are masked.

        masked: (B, num_items + 1) bool by item, True where it may not be said; column 0 does not count.
        """
        return nn.functional.pad(masked[:, self.order].long().cumsum(1), (1, 0))

    def alive(self, nodes: Tensor, sums: Tensor) -> Tensor:
        """(M,) bool: whether one item below each of the (M,) nodes is not masked; `sums` (M, num_items + 1) beside."""
        first, last = self.first[nodes], self.last[nodes]
        masked = sums.gather(1, last[:, None]) - sums.gather(1, first[:, None])
        return (last - first) > masked[:, 0]

    def edges(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """All edges of (M,) nodes: (E,) which of the nodes, and (E,) the edge."""
        counts = self.starts[nodes + 1] - self.starts[nodes]
        owner = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
        inside = torch.arange(len(owner), device=nodes.device) - (counts.cumsum(0) - counts)[owner]
        return owner, self.starts[nodes][owner] + inside
