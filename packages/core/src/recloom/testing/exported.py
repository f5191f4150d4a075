"""Run what a recommender exports: in torch, and in ONNX Runtime where `recloom-onnx` is installed."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from ..batch import Batch
from ..recommender import ExportSpec, Recommender, Search


def exported_scores(spec: ExportSpec, batch: Batch, recommender: Recommender) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of a runtime and the (B, num_items) scores that the exported graph gives in it.

    In ONNX Runtime the batch is run in one, and again request by request, so that a batch size frozen into
    the graph shows.
    """
    fields = tuple(getattr(batch.cut_to(spec.max_len), name) for name in spec.inputs)
    with torch.no_grad():
        yield "torch", spec.module.eval()(*fields)
    if find_spec("recloom_onnx") is None:
        return
    with untraced():
        model = import_module("recloom_onnx.exporting.trace").trace(
            spec, recommender.num_items, recommender.num_users
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        import_module("onnx_ir").save(model, path)
        session = import_module("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    yield "ONNX Runtime", run(*fields)
    rows = range(len(batch))
    yield "ONNX Runtime, one by one", torch.cat([run(*(field[n : n + 1] for field in fields)) for n in rows])


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
