"""int8 against float32: a trained SASRec as an artefact, and MiniLM as a text encoder. One thread, CPU.

    python benchmarks/quantize.py [--repeats 300]

SASRec is trained on ml-latest-small as configs/ml-latest-small/sasrec.yaml says (kept in .data/, and trained once),
exported in float32, fp16 and int8, and verified over all test users, leave-last-out, full catalogue, history
masked. `quantize_dynamic` is onnxruntime's own, per channel, of the same float32 file, for comparison.

    loss        share of the float32 NDCG@10 that is lost; its 95 % interval by bootstrap over users, paired
    alone       share of requests that get another list alone than among 31 others
    latency     ids in, ten ids out, p50 and p95 in milliseconds; the artefacts take turns

MiniLM is all-MiniLM-L6-v2 as `recloom encoder export` writes it; its NDCG is that of TextMean with the titles of
amazon-beauty, over all its test users. Top-10 overlap: of the ten nearest titles, among all. Writes quantize.json
beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import item_inputs  # noqa: E402
import numpy as np  # noqa: E402
import packaged_minilm  # noqa: E402
import quality  # noqa: E402
import torch  # noqa: E402

HERE = Path(__file__).resolve().parent
KINDS = (None, "fp16", "int8")
BATCHES = (1, 32)
DRAWS = 2000


def trained(data: Path) -> Any:
    """SASRec with the options of configs/ml-latest-small/sasrec.yaml."""
    import recloom
    from recloom.runs import load

    folder = HERE / ".data" / "quantize-sasrec"
    if (folder / "run.json").is_file() and (folder / "metrics.json").is_file():
        return load(folder)
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted training left
    config = {
        "model": {"lr": 0.001},
        "data": {"windows": "all"},
        "trainer": {"enable_progress_bar": False},
        "early_stopping": {"patience": 15},
    }
    run = recloom.fit(data, "SASRec", run=folder, seed=0, max_epochs=200, config=config)
    run.test()
    return run


def recommenders(run: Any, folder: Path, repeats: int) -> dict[str, Any]:
    """Every precision of one run, and onnxruntime's own int8."""
    from recloom_onnx.exporting.export import export_artefact
    from recloom_onnx.verification.cases import sample, user_cases
    from recloom_onnx.verification.reference import served_scores
    from recloom_onnx.verification.verify import verify_artefact

    users = run.data().requests("test").dataset
    rows: dict[str, dict[str, Any]] = {}
    files = {kind or "fp32": folder / f"{kind or 'fp32'}.onnx" for kind in KINDS}
    for kind in KINDS:
        name = kind or "fp32"
        export_artefact(run.recommender, run.catalog, run.popularity, files[name], quantize=kind)
        parity = verify_artefact(files[name], served_scores(run.module), run.catalog, sample(users))
        rows[name] = {"verified": parity.verified, "parity": parity.model_dump()}
    files["quantize_dynamic"] = theirs(files["fp32"], folder / "theirs.onnx")
    sessions = {name: session(path) for name, path in files.items()}
    cases = list(user_cases(sample(users), run.catalog))
    found = {name: [asked(one, case.given) for case in cases] for name, one in sessions.items()}
    values = {name: ndcg(lists, cases, run.catalog) for name, lists in found.items()}
    for name, lists in found.items():
        rows.setdefault(name, {})["mb"] = round(files[name].stat().st_size / 1e6, 3)
        rows[name] |= lost(values["fp32"], values[name])
        rows[name]["overlap"] = round(shared(lists, found["fp32"]), 4)
        rows[name]["alone"] = round(differs_alone(sessions[name], cases[len(cases) // 2].given), 3)
    for batch in BATCHES:
        given = {key: array[:batch] for key, array in cases[len(cases) // 2].given.items()}
        calls = {name: partial(asked, one, given) for name, one in sessions.items()}
        for name, times in in_turns(calls, repeats if batch == 1 else repeats // 5).items():
            rows[name][f"latency_ms_batch_{batch}"] = times
    return rows


def theirs(model: Path, out: Path) -> Path:
    """onnxruntime's own dynamic quantisation."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(model, out, per_channel=True, weight_type=QuantType.QInt8)
    return out


def session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def asked(one: Any, given: dict[str, Any]) -> Any:
    """(B, 10) raw ids."""
    names = {port.name for port in one.get_inputs()}
    inputs = {name: array for name, array in given.items() if name in names}
    return one.run(["item_id"], {**inputs, "k": np.array([10])})[0]


def ndcg(lists: list[Any], cases: list[Any], catalog: Any) -> Any:
    """(users,) NDCG@10."""
    from recloom_onnx.verification.cases import indices
    from recloom_onnx.verification.comparison import list_metrics

    parts = [
        list_metrics(indices(ids, catalog.item_index), case.targets)["ndcg@10"]
        for ids, case in zip(lists, cases, strict=True)
    ]
    return torch.cat(parts).numpy()


def lost(before: Any, after: Any) -> dict[str, Any]:
    """Relative loss of the mean, with its interval."""
    drawn = np.random.default_rng(0).integers(0, len(before), (DRAWS, len(before)))
    old, new = before[drawn].mean(1), after[drawn].mean(1)
    low, high = np.percentile((old - new) / old, [2.5, 97.5])
    return {
        "ndcg@10": round(float(after.mean()), 5),
        "loss": round(float(1 - after.mean() / before.mean()), 5),
        "loss_interval": [round(float(low), 5), round(float(high), 5)],
        "users": len(before),
        "users_with_another_ndcg": int((before != after).sum()),
    }


def shared(lists: list[Any], others: list[Any]) -> float:
    """Mean share of ten that two lists of lists have in common."""
    pairs = [
        (one, other) for a, b in zip(lists, others, strict=True) for one, other in zip(a, b, strict=True)
    ]
    return statistics.mean(len(set(one) & set(other)) / len(other) for one, other in pairs)


def differs_alone(one: Any, given: dict[str, Any], rows: int = 32) -> float:
    """Share of requests whose list depends on the requests beside them."""
    given = {name: array[:rows] for name, array in given.items()}
    together = asked(one, given)
    single = [
        asked(one, {name: array[n : n + 1] for name, array in given.items()})[0] for n in range(len(together))
    ]
    return statistics.mean(float((a != b).any()) for a, b in zip(together, single, strict=True))


def in_turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """p50 and p95 in milliseconds of each call; they take turns, so that all meet the same machine."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(repeats + 5):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if number >= 5:  # the first few warm up
                spent[name].append(1000 * (time.perf_counter() - begin))
    return {
        name: dict(zip(("p50", "p95"), np.percentile(times, [50, 95]).round(3).tolist(), strict=True))
        for name, times in spent.items()
    }


def encoders(data: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """MiniLM as float32 and int8, and TextMean with each."""
    import recloom
    from recloom_feature.encoders.export import export_encoder
    from recloom_feature.encoders.onnx import OnnxTextEncoder
    from recloom_feature.models.text_mean import TextMean
    from recloom_onnx.verification.cases import sample
    from recloom_onnx.verification.comparison import list_metrics
    from recloom_onnx.verification.reference import reference_scores

    run = recloom.fit(data, "Popularity", run=folder / "popularity")  # for its catalogue and requests
    texts = run.catalog.texts(("title",))
    users = run.data().requests("test").dataset
    rows: dict[str, dict[str, Any]] = {}
    vectors, values, encode = {}, {}, {}
    for weights in ("float32", "int8"):
        card = export_encoder(packaged_minilm.folder(), folder / weights, weights)
        encoder = OnnxTextEncoder(str(folder / weights), threads=1)
        encode[weights] = encoder.encode
        model = TextMean(run.catalog, encoder).eval()
        model.fit(run.data().train)
        vectors[weights] = model.vectors[1:].numpy()
        parts = []
        for batch in sample(users):
            blocked = torch.zeros(len(batch), 0, dtype=torch.int64)
            allowed = torch.ones(len(batch), run.catalog.num_items, dtype=torch.bool)
            with torch.inference_mode():
                best = reference_scores(model, run.popularity, batch, blocked, allowed).topk(10).indices + 1
            parts.append(list_metrics(best, batch.labels)["ndcg@10"])
        values[weights] = torch.cat(parts).numpy()
        rows[weights] = {
            "mb": round((folder / weights / "model.onnx").stat().st_size / 1e6, 2),
            "cosine": card.cosine.model_dump() if card.cosine else None,
            "TextMean": lost(values["float32"], values[weights]),
            "overlap": round(neighbours_shared(vectors["float32"], vectors[weights]), 4),
        }
    for batch in BATCHES:
        calls = {name: partial(one, texts[:batch]) for name, one in encode.items()}
        for name, times in in_turns(calls, max(10, repeats // (3 * batch))).items():
            rows[name][f"latency_ms_batch_{batch}"] = times
    return rows


def neighbours_shared(one: Any, other: Any, queries: int = 500) -> float:
    """Mean share of the ten nearest rows that two tables of unit vectors agree on."""
    picked = np.linspace(0, len(one) - 1, queries).astype(int)
    best = []
    for table in (one, other):
        near = table[picked] @ table.T
        near[np.arange(queries), picked] = -2
        best.append(np.argpartition(-near, 10, axis=1)[:, :10])
    return float((best[0][:, :, None] == best[1][:, None, :]).any(2).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=300)
    given = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    run = trained(quality.prepare("ml-latest-small"))
    with tempfile.TemporaryDirectory() as folder:
        found = {"SASRec": recommenders(run, Path(folder), given.repeats)}
        found["MiniLM"] = encoders(item_inputs.prepare("amazon-beauty"), Path(folder), given.repeats)
    result = {
        "protocol": " ".join(__doc__.split("\n\n", 1)[1].split()),
        "results": found,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load_at_start": round(load, 1),
        },
        "versions": {name: version(name) for name in ("torch", "onnx", "onnx-ir", "onnxruntime", "numpy")},
        "date": date.today().isoformat(),
    }
    (HERE / "quantize.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
