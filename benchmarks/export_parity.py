"""Every recommender of the project as an ONNX artefact: does the file rank as the checkpoint does?

    python benchmarks/export_parity.py [--models SASRec EASE ...] [--precision fp32]

Each is trained for one epoch (SGL for ten: after one it finds nothing), or fitted, on ml-latest-small (leave-last-out,
full catalogue, history masked), exported and verified: the grid of batch sizes and lengths, and all test users. Two
sets are made of it, both with random vectors of users and items for the models that read some:

    all      every film
    often    films with at least 50 ratings, for click models: for them, scoring a catalogue for 64 requests at
             once takes memory for every pair; trained on ratings of 4 and more against the others

`checkpoint` is the test of the run by `recloom test`, whose ties count against the model, while a list has them
in the order of the catalogue: `reference` is the checkpoint's lists, in the artefact's order. Interrupted, it goes
on where it stopped. Writes export_parity.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
import quality  # noqa: E402

HERE = Path(__file__).resolve().parent
OFTEN = 50
SMALL: dict[str, dict[str, Any]] = {
    "SASRec": {"dim": 64, "max_len": 50},
    "BERT4Rec": {"dim": 64, "max_len": 50},
    "EASE": {"regularization": 500.0},
    "DIN": {"max_len": 20},
    "DCNv2": {"max_len": 20},
    "DeepFM": {"max_len": 20},
    "KAR": {"backbone": {"class_path": "DCNv2", "init_args": {"max_len": 20}}},
}
"""Options beyond the defaults."""
EPOCHS = {"SGL": 10}


def prepared(fewest: int) -> Path:
    """ml-latest-small with vectors, and only the films with so many ratings."""
    import polars as pl
    from recloom.data.prepare import arrange, write_dataset
    from recloom.data.readers import RawTables
    from recloom.schemas import Source

    folder = HERE / ".data" / f"export-parity-{fewest}"
    if (folder / "dataset.json").is_file():
        return folder
    whole = quality.prepare("ml-latest-small")
    rows = pl.read_parquet(whole / "interactions.parquet").with_row_index("line", 1)
    rows = rows.filter(pl.len().over("item_id") >= fewest)
    items = pl.read_parquet(whole / "items.parquet").join(rows, on="item_id", how="semi")
    users = rows.select(pl.col("user_id").unique(maintain_order=True))
    items, users = (table.with_columns(vector=vectors(len(table))) for table in (items, users))
    data = arrange(RawTables(rows, [whole], items=items, users=users))
    write_dataset(
        data, folder, name=folder.name, source=Source(reader="movielens"), licence="see ml-latest-small"
    )
    return folder


def vectors(rows: int) -> Any:
    """(rows, 32) random numbers, as a column."""
    import polars as pl

    drawn = np.random.default_rng(rows).normal(size=(rows, 32)).astype(np.float32)
    return pl.Series("vector", drawn.tolist(), dtype=pl.List(pl.Float32))


def measure(name: str, model: Any, folder: Path, precision: str) -> dict[str, Any]:
    """One model's row."""
    import recloom
    import torch
    from recloom.errors import RecloomError
    from recloom.models.ctr.click_model import ClickModel
    from recloom_onnx.exporting.export import export_artefact
    from recloom_onnx.verification.cases import sample
    from recloom_onnx.verification.reference import served_scores
    from recloom_onnx.verification.verify import verify_artefact

    torch.set_num_threads(1)
    rated = issubclass(model, ClickModel) or name in ("KAR", "LikeShare", "TitleRate")
    config: dict[str, Any] = {
        "trainer": {"enable_progress_bar": False},
        "data": {"positive": 4.0} if rated else {},
    }
    run = recloom.fit(
        prepared(OFTEN if rated else 1),
        name,
        SMALL.get(name),
        run=folder / "run",
        max_epochs=EPOCHS.get(name, 1),
        config=config,
    )
    try:
        export_artefact(
            run.recommender,
            run.catalog,
            run.popularity,
            folder / "model.onnx",
            quantize=None if precision == "fp32" else precision,  # type: ignore[arg-type]
        )
    except RecloomError as error:
        return {"refused": str(error)}
    users = run.data().requests("test").dataset
    begun = time.perf_counter()
    parity = verify_artefact(folder / "model.onnx", served_scores(run.module), run.catalog, sample(users))
    seconds = round(time.perf_counter() - begun, 1)
    tested = run.test().metrics
    return {
        "set": "often" if rated else "all",
        "items": run.catalog.num_items,
        "inputs": list(run.recommender.inputs),
        "checkpoint": {key: tested[key].mean for key in parity.artefact if key in tested},
        "metric_difference": max(
            abs(parity.artefact[key] - value) for key, value in parity.reference.items()
        ),
        "verify_seconds": seconds,
        **parity.model_dump(),
    }


def main() -> None:
    from recloom.errors import RecloomError
    from recloom.plugins import collect

    models = collect("register_models")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=sorted(models))
    parser.add_argument("--precision", choices=["fp32", "fp16", "int8"], default="fp32")
    given = parser.parse_args()
    beside = "" if given.precision == "fp32" else f"-{given.precision}"
    target = HERE / f"export_parity{beside}.json"
    rows = json.loads(target.read_text())["rows"] if target.exists() else {}
    for name in given.models:
        if name in rows:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                rows[name] = measure(name, models[name], Path(folder), given.precision)
            except RecloomError as error:
                rows[name] = {"failed": str(error)}
        result = {
            "protocol": " ".join(str(__doc__).split("\n\n", 1)[1].split()),
            "precision": given.precision,
            "rows": dict(sorted(rows.items())),
            "machine": {"cores": os.cpu_count(), "threads": 1},
            "versions": {
                one: version(one) for one in ("recloom", "torch", "onnx", "onnxscript", "onnxruntime")
            },
            "date": date.today().isoformat(),
        }
        target.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
        print(name, json.dumps(rows[name]), flush=True)


if __name__ == "__main__":
    main()
