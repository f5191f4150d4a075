"""A bench is the same whether it was killed or not, repeats nothing, and keeps failures apart."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import recloom
from recloom.cli.main import main
from recloom.errors import RecloomError

MODELS = [
    "Popularity",
    {"name": "SASRec", "model": "SASRec", "options": {"dim": 8}, "config": {"trainer": {"max_epochs": 4}}},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_dataset):
    random = np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in np.repeat(np.arange(120), 8)],
            "item_id": [f"i{n}" for n in random.integers(0, 30, 960)],
            "timestamp": np.tile(np.arange(8), 120),
        }
    )
    return write_dataset(tmp_path_factory.mktemp("bench") / "films", rows)


def figures(folder):
    """Every number of a bench but for what depends on the clock."""
    found = json.loads((folder / "results.json").read_text())["comparisons"]["films"]["cells"]
    return {
        (cell["model"], cell["metric"]): [cell[key] for key in ("mean", "low", "high", "p_holm")]
        for cell in found
    }


def test_killed_twice_it_goes_on_and_equals_the_uninterrupted_one(data, tmp_path, capsys):
    whole = recloom.bench(MODELS, data, seeds=(0, 1), out=tmp_path / "whole", metrics=["ndcg@10", "hit@10"])
    assert [cell.seeds for cell in whole.comparisons["films"].cells] == [1, 1, 2, 2]
    assert whole.failures == []
    assert "SASRec (2 seeds)" in repr(whole)
    assert "SASRec (2 seeds)" in (tmp_path / "whole" / "table.tex").read_text()

    file = tmp_path / "bench.yaml"
    file.write_text(
        json.dumps({"models": MODELS, "data": [str(data)], "seeds": [0, 1], "metrics": ["ndcg@10", "hit@10"]})
    )
    words = ["bench", str(file), "--out", str(tmp_path / "killed")]
    runs = tmp_path / "killed" / "films"
    for awaited in ("Popularity/seed-0/metrics.json", "SASRec/seed-0/checkpoints/last.ckpt"):
        process = subprocess.Popen([sys.executable, "-m", "recloom", *words], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (runs / awaited).is_file():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    tested = (runs / "Popularity/seed-0/metrics.json").stat().st_mtime_ns
    main(words)
    told = capsys.readouterr().out
    assert "of 3 fits are tested already" in told
    assert "table.md, table.tex, table.csv, results.json" in told
    assert (runs / "Popularity/seed-0/metrics.json").stat().st_mtime_ns == tested
    first, second = figures(tmp_path / "whole"), figures(tmp_path / "killed")
    assert first.keys() == second.keys()
    for key, values in first.items():
        assert second[key] == pytest.approx(values, rel=1e-5), key

    main([*words, "--metrics", "mrr@10,ndcg@10"])  # another metric is a test, and no fit
    assert "epochs: 4" in capsys.readouterr().out
    assert "mrr@10" in (tmp_path / "killed" / "table.csv").read_text()


def test_what_fails_is_told_and_the_rest_is_compared(data, tmp_path, capsys):
    odd = {"name": "odd", "model": "SASRec", "options": {"dim": 7, "num_heads": 2}}
    file = tmp_path / "bench.yaml"
    file.write_text(json.dumps({"models": ["Popularity", odd, "ItemKNN"], "data": str(data), "seeds": 0}))
    with pytest.raises(SystemExit) as ended:
        main(["bench", str(file), "--out", str(tmp_path / "out")])
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert "failed: films: odd, seed 0: " in told
    assert "ItemKNN" in (tmp_path / "out" / "table.md").read_text()
    assert "odd" in json.loads((tmp_path / "out" / "results.json").read_text())["failures"].popitem()[0]
    with pytest.raises(RecloomError, match="nothing can be compared, since these failed"):
        recloom.bench([odd, "ItemKNN"], data, seeds=(0,), out=tmp_path / "none")
