"""Run what a recommender exports: in torch, and in the runtime of every installed kind of exported file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..batch import Batch
from ..recommender import ExportSpec, Recommender, Search
from ..runs.artefacts import installed_artefacts


def exported_scores(spec: ExportSpec, batch: Batch, recommender: Recommender) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of a runtime and the (B, num_items) scores that the exported graph gives in it.

    A runtime gets the batch in one, and again request by request, so that a batch size frozen into the graph
    shows.
    """
    fields = tuple(getattr(batch.cut_to(spec.max_len), name) for name in spec.inputs)
    with torch.no_grad():
        yield "torch", spec.module.eval()(*fields)
    rows = range(len(batch))
    for artefacts in installed_artefacts().values():
        with untraced():
            context = batch.context.shape[1]
            run = artefacts.trace(spec, recommender.num_items, recommender.num_users, context)
        yield artefacts.runtime, run(*fields)
        alone = [run(*(field[n : n + 1] for field in fields)) for n in rows]
        yield f"{artefacts.runtime}, one by one", torch.cat(alone)


def searched_scores(search: Search, spec: ExportSpec, batch: Batch) -> Tensor:
    """(B, num_items) inner products of what an index would hold."""
    fields = tuple(getattr(batch.cut_to(spec.max_len), name) for name in spec.inputs)
    with torch.no_grad():
        scores: Tensor = search.query.eval()(*fields) @ search.items.T
    return scores


@contextmanager
def untraced() -> Iterator[None]:
    """Keep pytest from collecting torch's trace log, which it would print below a failure."""
    log = logging.getLogger("torch.__trace")
    before = log.handlers
    log.handlers = [one for one in before if not type(one).__module__.startswith("_pytest")]
    try:
        yield
    finally:
        log.handlers = before
