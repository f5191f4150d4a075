"""Training speed and memory of SASRec on ml-1m against a bare loop and RecTools, one thread, CPU time.

    python benchmarks/sasrec_speed.py        writes sasrec_speed.json beside this file

All train SASRec with d=64, 2 layers, 2 heads, FFN 64, dropout .2, batch 128, on the last L + 1 training items
of each user (leave-last-out). `recloom` is the real `recloom fit`, Lightning and its callbacks included;
`bare` is a hand-written loop that builds the whole logits of the non-padded positions; `rectools` is
RecTools 0.19 with its softmax loss, in an environment of its own that this script makes. Every measurement is a
process of its own; the figure is the CPU time of a training epoch after the first, the median of the repeats
(RecTools is measured once).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE / ".data" / "ml-1m"
RAW = Path(os.environ.get("RECLOOM_DATA", HERE.parents[1] / "shared" / "data")) / "ml-1m" / "sequences.txt"
PEER = HERE / ".env-rectools"
BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--worker", nargs=3, metavar=("WHO", "LOSS", "LENGTH"), help="one measurement; prints JSON"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--epochs", type=int, default=2, help="epochs of a measurement; the first is not counted"
    )
    given = parser.parse_args()
    if given.worker:
        who, loss, length = given.worker
        print(json.dumps(WORKERS[who](loss, int(length), given.epochs)))
        return
    prepare_data()
    prepare_peer()
    rows = []
    for length in (50, 200):
        for loss, peers in (("full", ("recloom", "bare", "rectools")), ("one-negative", ("recloom", "bare"))):
            runs = {who: [] for who in peers}
            for turn in range(given.repeats):
                for who in peers:  # in turn, so that the machine's mood is shared
                    if who == "rectools" and turn:
                        continue  # minutes an epoch: once is enough
                    runs[who].append(measure(who, loss, length, given.epochs))
                    print(length, loss, who, runs[who][-1], flush=True)
            rows.append(summary(length, loss, runs))
            print(json.dumps(rows[-1], indent=2), flush=True)
    result = {
        "what": __doc__.strip().splitlines()[0],
        "protocol": f"CPU seconds of a training epoch after the first, batch {BATCH}, median of {given.repeats}",
        "seed": 0,
        "machine": {"cores": os.cpu_count(), "threads": 1},
        "date": date.today().isoformat(),
        "versions": {n: version(n) for n in ("torch", "lightning", "recloom")} | {"rectools": "0.19.0"},
        "rows": rows,
    }
    (HERE / "sasrec_speed.json").write_text(json.dumps(result, indent=2) + "\n")


def summary(length: int, loss: str, runs: dict[str, list[dict[str, float]]]) -> dict[str, object]:
    """Medians, and how many times faster than each peer: the median of the pairs."""
    row: dict[str, object] = {"L": length, "loss": loss}
    for who, found in runs.items():
        row[who] = {key: round(statistics.median(f[key] for f in found), 3) for key in found[0]}
    for who in set(runs) - {"recloom"}:
        pairs = zip(runs["recloom"], runs[who], strict=False)
        row[f"times faster than {who}"] = round(statistics.median(t["cpu"] / o["cpu"] for o, t in pairs), 2)
    if "bare" in runs:
        row["peak memory over bare"] = round(row["recloom"]["peak_mb"] / row["bare"]["peak_mb"], 3)  # type: ignore[index]
    return row


def prepare_data() -> None:
    """The dataset, prepared once."""
    if not (DATA / "dataset.json").is_file():
        subprocess.run(
            [
                Path(sys.executable).with_name("recloom"),
                "data",
                "prepare",
                "sequences",
                "--path",
                RAW,
                "--out",
                DATA,
            ],
            check=True,
        )


def prepare_peer() -> None:
    """The peer's environment."""
    if not (PEER / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", PEER], check=True)
    pip = [PEER / "bin" / "pip", "install", "-q", "torch==2.13.0", "rectools[torch]==0.19.0"]
    subprocess.run(pip, check=True)


def measure(who: str, loss: str, length: int, epochs: int) -> dict[str, float]:
    """Run one worker in a process of its own."""
    python = PEER / "bin" / "python" if who == "rectools" else sys.executable
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    command = [python, __file__, "--worker", who, loss, str(length), "--epochs", str(epochs)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{who} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def sequences() -> list[list[int]]:
    """Items of each user without the two held-out ones, numbered from 1."""
    users: dict[str, list[int]] = {}
    for line in RAW.read_text().splitlines():
        user, item = line.split()
        users.setdefault(user, []).append(int(item))
    return [items[:-2] for items in users.values()]


def figures(epochs: list[float]) -> dict[str, float]:
    """The mean epoch after the first, and the peak memory of this process."""
    return {
        "cpu": statistics.mean(epochs[1:]),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def recloom(loss: str, length: int, epochs: int) -> dict[str, float]:
    import tempfile

    from recloom.fitting import run_command
    from sasrec_clock import Clock

    with tempfile.TemporaryDirectory() as folder:
        run_command(
            ["fit", "--model=SASRec", f"--data={DATA}", "--data.windows=last", f"--run={folder}/run",
             f"--model.recommender.max_len={length}",
             f"--model.loss={'CrossEntropy' if loss == 'full' else 'BCE'}", f"--data.batch_size={BATCH}",
             f"--trainer.max_epochs={epochs}", "--trainer.limit_val_batches=0",
             "--trainer.callbacks+=sasrec_clock.Clock"]
        )  # fmt: skip
    return figures(Clock.epochs)


def bare(loss: str, length: int, epochs: int) -> dict[str, float]:
    import torch
    from torch import nn
    from torch.nn.functional import (
        binary_cross_entropy_with_logits,
        cross_entropy,
        scaled_dot_product_attention,
    )

    torch.manual_seed(0)
    torch.set_num_threads(1)
    users = sequences()
    history, label = (
        torch.zeros(len(users), length, dtype=torch.long),
        torch.zeros(len(users), length, dtype=torch.long),
    )
    for row, items in enumerate(users):
        window = torch.tensor(items[-(length + 1) :])
        history[row, : len(window) - 1], label[row, : len(window) - 1] = window[:-1], window[1:]
    num_items = int(max(history.max(), label.max()))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(64), nn.LayerNorm(64)
            self.qkv, self.out, self.drop = nn.Linear(64, 192), nn.Linear(64, 64), nn.Dropout(0.2)
            self.ffn = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))

        def forward(self, x):
            b, n, _ = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, 2, 32).permute(2, 0, 3, 1, 4)
            read = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, n, 64)
            x = x + self.drop(self.out(read))
            return x + self.drop(self.ffn(self.norm2(x)))

    table, place = nn.Embedding(num_items + 1, 64, padding_idx=0), nn.Embedding(length, 64)
    blocks, norm, drop = nn.Sequential(Block(), Block()), nn.LayerNorm(64), nn.Dropout(0.2)
    model = nn.ModuleList([table, place, blocks, norm])
    for embedding in (table, place):
        nn.init.normal_(embedding.weight, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    times = []
    for _ in range(epochs):
        begin = time.process_time()
        for rows in torch.randperm(len(users)).split(BATCH):
            x = norm(blocks(drop(table(history[rows]) + place.weight)))
            real = label[rows] > 0
            x, target = x[real], label[rows][real]
            if loss == "full":
                value = cross_entropy(x @ table.weight.T, target)
            else:
                negative = torch.randint(1, num_items + 1, target.shape)
                logits = torch.stack([(x * table(target)).sum(1), (x * table(negative)).sum(1)])
                truth = torch.stack([torch.ones(len(target)), torch.zeros(len(target))])
                value = binary_cross_entropy_with_logits(logits, truth)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        times.append(time.process_time() - begin)
    return figures(times)


def rectools(loss: str, length: int, epochs: int) -> dict[str, float]:
    import warnings

    import pandas as pd
    import torch
    from pytorch_lightning import Callback, Trainer
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = [(user, item, at) for user, items in enumerate(sequences()) for at, item in enumerate(items)]
    frame = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Datetime])
    frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
    frame[Columns.Weight] = 1
    times: list[float] = []

    class Mark(Callback):
        def on_train_epoch_start(self, *_):
            times.append(-time.process_time())

        def on_train_epoch_end(self, *_):
            times[-1] += time.process_time()

    def trainer() -> Trainer:
        return Trainer(max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
                       enable_progress_bar=False, enable_model_summary=False, callbacks=[Mark()])  # fmt: skip

    model = SASRecModel(
        n_factors=64, n_blocks=2, n_heads=2, dropout_rate=0.2, session_max_len=length, batch_size=BATCH,
        loss="softmax", lr=1e-3, epochs=epochs, get_trainer_func=trainer, dataloader_num_workers=0, verbose=0,
    )  # fmt: skip
    model.fit(Dataset.construct(frame))
    return figures(times)


WORKERS = {"recloom": recloom, "bare": bare, "rectools": rectools}

if __name__ == "__main__":
    main()
