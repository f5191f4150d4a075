"""What a training step of LightGCN costs through `RecModule` and Lightning, against a bare loop.

    python benchmarks/lightgcn.py --data ../shared/data

The bare loop holds the same matrix, the same symmetric backward, the same sampling without positives, the
same loss and the same optimiser, and nothing else. Both run on one thread, in turns. Time is CPU time from
the end of a step to the end of the next: all that happens between them counts. Writes lightgcn.json here.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import warnings
from datetime import date
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any

import lightning as L
import torch
from recloom.data import Interactions
from recloom.data.batches import RecDataModule
from recloom.data.prepare import prepare
from recloom.losses import BPR
from recloom.training import RecModule
from recloom_graph.graphs.dataset_graphs import bipartite
from recloom_graph.models.lightgcn import LightGCN
from torch import Tensor
from torch.nn.functional import embedding, softplus

DIM, LAYERS, BATCH, L2, LR, SEED = 64, 2, 2048, 1e-4, 1e-3, 0
WARMUP, STEPS, ROUNDS, LIMIT = 10, 100, 3, 1.15


class Clock(L.Callback):
    """CPU time between the ends of consecutive steps."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(process_time())

    def steps(self) -> list[float]:
        """Of each step after the warm-up, in milliseconds."""
        return [(end - begin) * 1e3 for begin, end in pairwise(self.ends[WARMUP:])]


def through_lightning(data: RecDataModule) -> list[float]:
    """The path of `recloom fit`, without validation, logs and checkpoints."""
    clock = Clock()
    trainer = L.Trainer(
        max_steps=WARMUP + STEPS + 1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=[clock],
    )  # fmt: skip
    module = RecModule(partial(LightGCN, dim=DIM, num_layers=LAYERS), loss=BPR(l2=L2), lr=LR)
    trainer.fit(module, datamodule=data)
    return clock.steps()


class Product(torch.autograd.Function):
    """A symmetric CSR matrix times x: the backward is the forward."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, x: Tensor) -> Tensor:
        ctx.matrix = matrix
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, ctx.matrix @ grads[0]


def bare(train: Interactions) -> list[float]:
    """The shortest loop that trains the same model on the same data."""
    torch.manual_seed(SEED)
    matrix = bipartite(train).symmetric
    all_users, all_items = train.pairs()
    first = train.num_users + 1
    seen = torch.zeros(first, train.num_items + 1, dtype=torch.bool)
    seen[all_users, all_items] = True
    table = torch.nn.Parameter(torch.randn(first + train.num_items + 1, DIM) * 0.1)
    optimizer = torch.optim.AdamW([table], lr=LR, weight_decay=0.0, foreach=True)
    clock = Clock()
    for rows in torch.randperm(len(all_users)).split(BATCH)[: WARMUP + STEPS + 1]:
        users, items = all_users[rows], all_items[rows]
        other = torch.randint(1, train.num_items + 1, (len(rows),))
        while bool((bad := seen[users, other]).any()):
            other[bad] = torch.randint(1, train.num_items + 1, (int(bad.sum()),))
        layers = [table]
        for _ in range(LAYERS):
            layers.append(Product.apply(matrix, layers[-1]))
        final = sum(layers) / len(layers)
        u, i, j = (embedding(nodes, final) for nodes in (users, items + first, other + first))
        loss = softplus((u * j).sum(1) - (u * i).sum(1)).mean()
        initial = [embedding(nodes, table) for nodes in (users, items + first, other + first)]
        loss = loss + L2 * 0.5 * sum(rows.square().sum() for rows in initial) / len(users)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock.on_train_batch_end()
    return clock.steps()


def measure(source: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        prepare("sequences", path=source, out=Path(folder) / "ml-1m")
        data = RecDataModule(str(Path(folder) / "ml-1m"), batch_size=BATCH, seed=SEED)
        data.setup()
        ours, plain = [], []
        for _ in range(ROUNDS):
            ours += through_lightning(data)
            plain += bare(data.train)
        facts = {
            "interactions": len(data.train),
            "users": data.train.num_users,
            "items": data.train.num_items,
        }
    times = {"recloom_ms": statistics.median(ours), "bare_ms": statistics.median(plain)}
    ratio = times["recloom_ms"] / times["bare_ms"]
    return (
        facts
        | {name: round(ms, 2) for name, ms in times.items()}
        | {"ratio": round(ratio, 3), "limit": LIMIT}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RECLOOM_DATA", "../shared/data")))
    source = parser.parse_args().data / "ml-1m" / "sequences.txt"
    if not source.is_file():
        raise SystemExit(f"no {source}; name the folder that holds ml-1m/sequences.txt with --data")
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    record = {
        "what": "median CPU ms of a training step, LightGCN, ml-1m, through Lightning and as a bare loop",
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in ("recloom", "recloom-graph", "torch", "lightning")},
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "settings": {"dim": DIM, "num_layers": LAYERS, "batch_size": BATCH, "l2": L2, "lr": LR, "seed": SEED},
        "steps": STEPS * ROUNDS,
        **measure(source),
    }
    target = Path(__file__).with_suffix(".json")
    target.write_text(json.dumps(record, indent=2) + "\n")
    print(target.read_text())


if __name__ == "__main__":
    main()
