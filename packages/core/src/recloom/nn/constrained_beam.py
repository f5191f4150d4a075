"""Beam search and sampling among the paths of a catalogue: plain references over any step function.

Scores are sums of log-probabilities over all codes, never renormalised over the legal ones, with length penalty 0.
What comes out is legal by construction, since only edges of the trie are followed that lead to an allowed item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import RecloomError, at_least
from .catalogue_trie import CatalogueTrie

Step = Callable[[Tensor], Tensor]
"""From (B, K, T) int64 codes said so far to (B, K, V) log-probabilities of the next; T may be 0. Codes behind the end
of a path, and those of empty places of a beam, are 0 and their rows are not read."""


@dataclass(frozen=True)
class _Paths:
    """M beginnings of paths, request by request, best first.

    Attributes:
        request: (M,) int64 from 0.
        place: (M,) int64 place in the beam of its request.
        node: (M,) int64.
        score: (M,) float.
        codes: (M, T) int64, 0 behind the end.
    """

    request: Tensor
    place: Tensor
    node: Tensor
    score: Tensor
    codes: Tensor


@torch.no_grad()
def beam_search(
    trie: CatalogueTrie, step: Step, requests: int, k: int, *, beam: int, masked: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The k most probable items that a beam finds: (B, k) items and (B, k) log-probabilities of their paths.

    With a beam as large as the catalogue these are the k most probable of all. A list that is shorter, since fewer
    items are allowed, ends in item 0 with -inf. Ties keep the order of paths.

    Args:
        trie: the paths of the items.
        step: log-probabilities of the next code.
        requests: B.
        k: items wanted, at most `beam`.
        beam: paths kept after each code, those that have ended included.
        masked: (B, num_items + 1) bool, True for items that may not be said.
    """
    at_least(1, k=k, requests=requests)
    if beam < k:
        raise RecloomError(f"a beam of {beam} cannot give {k} items; set it to at least {k}")
    sums = _sums(trie, masked, requests)
    paths = _roots(trie, sums, requests)
    for _ in range(trie.codes.shape[1]):
        ended = trie.item[paths.node] > 0
        if bool(ended.all()):
            break
        log_probs = _next(step, paths, requests)[~ended]  # (U, V)
        open_ = torch.nonzero(~ended)[:, 0]
        owner, edge = trie.edges(paths.node[open_])
        kept = trie.alive(edge + 1, sums[paths.request[open_][owner]])
        owner, edge = owner[kept], edge[kept]
        code, source = trie.edge_code[edge], open_[owner]
        done = torch.nonzero(ended)[:, 0]
        said = torch.cat([paths.codes[source], code[:, None]], 1)
        rest = torch.cat([paths.codes[done], torch.zeros_like(done)[:, None]], 1)
        paths = _best(
            torch.cat([paths.request[done], paths.request[source]]),
            torch.cat([paths.node[done], edge + 1]),
            torch.cat(
                [paths.score[done], paths.score[source] + log_probs[owner, code].to(paths.score.dtype)]
            ),
            torch.cat([rest, said]),
            trie.first,
            beam,
        )
    items = torch.zeros(requests, k, dtype=torch.long, device=trie.item.device)
    scores = torch.full((requests, k), float("-inf"), device=trie.item.device)
    shown = paths.place < k
    items[paths.request[shown], paths.place[shown]] = trie.item[paths.node[shown]]
    scores[paths.request[shown], paths.place[shown]] = paths.score[shown].float()
    return items, scores


@torch.no_grad()
def sample_paths(
    trie: CatalogueTrie, step: Step, requests: int, n: int, *, masked: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Items drawn code by code: (B, n) items, which may repeat, and (B, n) log-probabilities of their paths.

    A code is drawn with its probability among those that lead to an allowed item; the log-probabilities that come out
    are over all codes. A request of which nothing is allowed gets items 0 and -inf.
    """
    at_least(1, n=n, requests=requests)
    sums = _sums(trie, masked, requests)
    request = torch.arange(requests, device=trie.item.device).repeat_interleave(n)
    node, score = torch.zeros_like(request), torch.zeros(len(request), device=request.device)
    dead = ~trie.alive(node, sums[request])
    codes = torch.zeros(len(request), 0, dtype=torch.long, device=request.device)
    for _ in range(trie.codes.shape[1]):
        open_ = torch.nonzero((trie.item[node] == 0) & ~dead)[:, 0]
        if not len(open_):
            break
        log_probs = step(codes.view(requests, n, -1)).flatten(0, 1)[open_]  # (U, V)
        owner, edge = trie.edges(node[open_])
        kept = trie.alive(edge + 1, sums[request[open_]][owner])
        owner, edge = owner[kept], edge[kept]
        chosen = log_probs[owner, trie.edge_code[edge]].float()  # (E,)
        noise = torch.rand(len(edge), generator=generator).to(chosen.device)
        drawn = chosen - (-noise.clamp(min=1e-20).log()).log()  # Gumbel: the largest of a node is a draw
        order = torch.argsort(drawn, descending=True, stable=True)
        order = order[torch.argsort(owner[order], stable=True)]
        first = torch.ones_like(order, dtype=torch.bool)
        first[1:] = owner[order][1:] != owner[order][:-1]
        best = order[first]  # one edge for each open path, in their order
        score[open_] += chosen[best]
        said = torch.zeros_like(request)
        said[open_], node[open_] = trie.edge_code[edge[best]], edge[best] + 1
        codes = torch.cat([codes, said[:, None]], 1)
    items = trie.item[node].masked_fill(dead, 0)
    return items.view(requests, n), score.masked_fill(dead, float("-inf")).view(requests, n)


def path_log_probs(trie: CatalogueTrie, step: Step, items: Tensor) -> Tensor:
    """(B, C) log-probabilities of the whole paths of (B, C) items; -inf for item 0."""
    codes, lengths = trie.codes[items], trie.lengths[items]  # (B, C, D), (B, C)
    total = torch.zeros(items.shape, device=items.device)
    for at in range(codes.shape[2]):
        log_probs = step(codes[..., :at].clamp(min=0))  # (B, C, V)
        own = log_probs.gather(-1, codes[..., at : at + 1].clamp(min=0))[..., 0]
        total = total + torch.where(at < lengths, own.float(), 0.0)
    return total.masked_fill(items == 0, float("-inf"))


def _sums(trie: CatalogueTrie, masked: Tensor | None, requests: int) -> Tensor:
    none = torch.zeros(requests, trie.num_items + 1, dtype=torch.bool, device=trie.item.device)
    return trie.masked_sums(none if masked is None else masked)


def _roots(trie: CatalogueTrie, sums: Tensor, requests: int) -> _Paths:
    """Requests that are allowed an item, at the root."""
    every = torch.arange(requests, device=trie.item.device)
    request = every[trie.alive(torch.zeros_like(every), sums)]
    zero = torch.zeros_like(request)
    return _Paths(request, zero, zero, zero.double(), zero[:, None][:, :0])


def _next(step: Step, paths: _Paths, requests: int) -> Tensor:
    """(M, V) log-probabilities behind each path, from one call of the step function."""
    width = int(paths.place.max()) + 1
    codes = paths.codes.new_zeros(requests, width, paths.codes.shape[1])
    codes[paths.request, paths.place] = paths.codes
    return step(codes)[paths.request, paths.place]


def _best(request: Tensor, node: Tensor, score: Tensor, codes: Tensor, first: Tensor, beam: int) -> _Paths:
    """The `beam` best of each request; ties in the order of paths."""
    order = torch.argsort(first[node], stable=True)
    order = order[torch.argsort(score[order], descending=True, stable=True)]
    order = order[torch.argsort(request[order], stable=True)]
    counts = torch.bincount(request, minlength=int(request.max()) + 1)
    begin = counts.cumsum(0) - counts
    place = torch.arange(len(order), device=order.device) - begin[request[order]]
    order, place = order[place < beam], place[place < beam]
    return _Paths(request[order], place, node[order], score[order], codes[order])
